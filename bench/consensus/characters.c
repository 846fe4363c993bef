/* SPDX-License-Identifier: MIT
 * characters.c: the small transformer of examples/llm on text. It and the trainer's networks call things alike, so it
 * is compiled in here under other names. */
#define model_make transformer_make
#define model_init transformer_init
#define model_batch transformer_batch
#define model_predict transformer_predict
#define workspace_new transformer_workspace
#define workspace_free transformer_workspace_free
#include "llm/model.c"

#include "consensus/task.h"

#include "llm/story.h"
#include "llm/text.h"

#include <stdio.h>

enum { LAYERS = 1, WIDTH = 32, HEADS = 4, CONTEXT = 32, WINDOWS = 256, PIECE = 32, STORY = 400000 };

typedef struct characters {
    text text;
    model net;
    workspace *space;
    uint8_t *x, *y;
} characters;

static void init(task *t, float *params, uint64_t seed) {
    model_init(&((const characters *)t->own)->net, params, seed);
}

static double gradient(task *t, const float *params, uint64_t seed, size_t step, size_t worker, size_t batch,
                       float *grads) {
    characters *own = (characters *)t->own;
    text_batch(&own->text, seed, step, worker * batch, batch, CONTEXT, own->x, own->y);
    return model_batch(&own->net, own->space, params, own->x, own->y, batch, CONTEXT, grads) /
           (double)(batch * CONTEXT);
}

/* Windows of the text's last tenth: every second one is for tuning. */
static double measure(task *t, const float *params, task_part which, double *accuracy) {
    characters *own = (characters *)t->own;
    const size_t windows = text_windows(&own->text, CONTEXT, WINDOWS);
    double loss = 0.0;
    size_t n = 0, all = 0;
    for (size_t i = which == PART_TEST; i < windows; i += 2) {
        text_window(&own->text, windows, i, 1, CONTEXT, own->x + n * CONTEXT, own->y + n * CONTEXT);
        n++;
        if (n < PIECE && i + 2 < windows) continue;
        loss += model_batch(&own->net, own->space, params, own->x, own->y, n, CONTEXT, NULL);
        all += n;
        n = 0;
    }
    *accuracy = (double)NAN;
    return loss / (double)(all * CONTEXT);
}

static void close_characters(task *t) {
    characters *own = (characters *)t->own;
    workspace_free(own->space);
    text_free(&own->text);
    free(own->x);
    free(own->y);
    free(own);
}

void task_text(task *t, const char *file) {
    characters *own = (characters *)new_array(1, sizeof *own);
    if (file) {
        text_load(&own->text, file, CONTEXT);
    } else {
        unsigned char *story = (unsigned char *)new_array(STORY, 1);
        story_make(story, STORY, 1);
        text_make(&own->text, "the program's own story", story, STORY, CONTEXT);
        free(story);
    }
    if (text_windows(&own->text, CONTEXT, WINDOWS) < 4)
        bad_input("%s: a longer text is expected, not %zu characters", file, own->text.train_count);
    model_make(&own->net, LAYERS, WIDTH, HEADS, CONTEXT, own->text.symbols);
    own->space = workspace_new(&own->net, TASK_MOST_BATCH);
    own->x = (uint8_t *)new_array(TASK_MOST_BATCH * CONTEXT, 1);
    own->y = (uint8_t *)new_array(TASK_MOST_BATCH * CONTEXT, 1);
    t->key = "text";
    /* what it is, not where: rows are the same wherever it lies */
    snprintf(t->data, sizeof t->data, "%s (%016llx)", file ? "text" : "story",
             (unsigned long long)text_hash(&own->text));
    snprintf(t->title, sizeof t->title, "%s", file ? "A text" : "The program's own story");
    t->parameters = own->net.parameters;
    t->tensors = own->net.tensors;
    for (size_t i = 0; i < own->net.tensors; i++) t->tensor[i] = own->net.tensor[i].count;
    t->guessing = log((double)own->text.symbols);
    t->adam = 1;
    t->rate = 0.02;
    snprintf(t->model, sizeof t->model, "a transformer of %zu parameters; Adam", t->parameters);
    t->init = init;
    t->gradient = gradient;
    t->measure = measure;
    t->close = close_characters;
    t->own = own;
}
