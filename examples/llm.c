/* SPDX-License-Identifier: MIT
 * llm.c: trains a small transformer on characters, data-parallel over TCP, and compares that with a single worker.
 *
 *   build/llm                                              two processes, on text that the program makes itself
 *   build/llm --data shakespeare.txt --workers 4 --svg curves.svg --generate 500
 *   build/llm --peers host0:7000,host1:7000 --rank 0 --tls tls ...            and the same with --rank 1 on host 1
 *
 * Where to look: llm/parallel.c is the only file that knows of the library, llm/run.c is the training loop that calls
 * it, twice a step; model, text, adam, ... are what any trainer has. */
#include "llm/model.h"
#include "llm/options.h"
#include "llm/parallel.h"
#include "llm/report.h"
#include "llm/run.h"
#include "llm/story.h"
#include "llm/text.h"
#include "train/processes.h"
#include "train/rng.h"
#include "train/util.h"

#include <stdio.h>
#include <stdlib.h>

enum { STORY = 400000 };

static void load(text *t, const options *o) {
    if (o->data) {
        text_load(t, o->data, o->context);
        return;
    }
    unsigned char *story = new_array(STORY, 1);
    story_make(story, STORY, 1); /* the same whatever --seed: runs stay comparable */
    text_make(t, "the program's own text", story, STORY, o->context);
    free(story);
}

int main(int argc, char **argv) {
    options o;
    text t;
    model m;
    run_result run[RULES];
    size_t runs = 0;
    char title[200];
    program_name = "llm";
    options_parse(&o, argc, argv);
    load(&t, &o);
    model_make(&m, o.layers, o.width, o.heads, o.context, t.symbols);
    if (o.launch) o.rank = processes_start(o.workers, &o.peers);
    parallel *p = parallel_open(&o, rng_mix(options_hash(&o) ^ text_hash(&t)));
    float *params = new_floats(m.parameters);
    const double pairs = text_pairs(&t);
    snprintf(title, sizeof title, "%zu parameters, batch %zu, %zu workers", m.parameters, o.batch, o.workers);
    if (o.rank == 0)
        printf("%s: %zu characters to train on, %zu to validate with, %zu different ones\n"
               "%zu parameters, %zu layers of %zu, context %zu; batch %zu, %zu steps, %zu workers, seed %llu\n",
               t.name, t.train_count, t.validation_count, t.symbols, m.parameters, m.layers, m.width, m.context,
               o.batch, o.steps, o.workers, (unsigned long long)o.seed);
    fflush(stdout);
    for (rule r = 0; r < RULES; r++) /* the others wait for rank 0, who also trains alone */
        if (o.run[r] && (r != RULE_SINGLE || o.rank == 0)) run_train(&run[runs++], r, &o, &t, &m, p, params);
    if (o.rank == 0) {
        report_table(pairs, runs, run);
        if (o.csv) report_csv(o.csv, runs, run);
        if (o.svg) report_picture(o.svg, title, pairs, runs, run);
        if (o.generate) run_generate(&o, &t, &m, params, o.generate);
    }
    for (size_t i = 0; i < runs; i++) run_free(&run[i]);
    parallel_close(p);
    free(params);
    text_free(&t);
    free(o.peers);
    return EXIT_SUCCESS;
}
