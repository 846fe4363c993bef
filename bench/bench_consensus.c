/* SPDX-License-Identifier: MIT
 * bench-consensus: what AdaCons is worth against the mean of the gradients, and what each of its parts is: four small
 * tasks, a grid of worker counts and batch sizes, thirteen rules, each at the mean's best step size and at its own.
 * The status is 1 if a check fails; that a claim does not hold is a result.
 *
 * Every run is a line of the JSON file; runs whose line is there are not repeated, so that a study can be stopped and
 * gone on with, and tables, verdicts and picture are made from the lines alone. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define SUBSPACE_IMPLEMENTATION
#include "subspace.h"

#include "consensus/tell.h"

#include "options.h"

#include <errno.h>

typedef struct settings {
    const char *images, *text, *adult, *rows_at, *csv_at, *tasks;
    int quick, only_check;
    study s;
} settings;

static const char *const task_key[TASKS] = {"people", "images", "text", "ages"};

static void usage(void) {
    puts("usage: bench-consensus [options]\n"
         "Trains small models with many workers' gradients put together by AdaCons, the mean, Adasum and others, each "
         "at "
         "the mean's\n"
         "best step size and at its own.\n"
         "\n"
         "  --images DIR   Fashion-MNIST or MNIST; without it: glyphs that the program draws itself\n"
         "  --text FILE    a text (tiny Shakespeare); without it: the program's own story\n"
         "  --adult DIR    UCI Adult: adult.data, adult.test; without it: people drawn by a law of its own\n"
         "  --tasks LIST   of people, images, text, ages (all of them; ages: people, each worker's of an age)\n"
         "  --seeds N      (5; 1 to 20)\n"
         "  --quick        shorter runs, 2 seeds, fewer cells: a look\n"
         "  --check        only the checks\n"
         "  --json FILE    a row for each run; report, values (.csv) and picture beside it. Runs that it has are not "
         "repeated\n"
         "  --csv FILE     the values go there instead\n"
         "  --help");
}

static _Noreturn void refuse(const char *option, const char *expected, const char *got) {
    bad_input("%s: %s is expected, not '%s' (--help lists the options)", option, expected, got);
}

static void read_options(int argc, char **argv, settings *o) {
    options line = {argc, 1, argv};
    while (line.at < line.argc) {
        const char *v;
        if (option_switch(&line, "--help")) {
            usage();
            exit(0);
        }
        if (option_switch(&line, "--quick"))
            o->quick = 1;
        else if (option_switch(&line, "--check"))
            o->only_check = 1;
        else if ((v = option_value(&line, "--images")))
            o->images = v;
        else if ((v = option_value(&line, "--text")))
            o->text = v;
        else if ((v = option_value(&line, "--adult")))
            o->adult = v;
        else if ((v = option_value(&line, "--tasks")))
            o->tasks = v;
        else if ((v = option_value(&line, "--json")))
            o->rows_at = v;
        else if ((v = option_value(&line, "--csv")))
            o->csv_at = v;
        else if ((v = option_value(&line, "--seeds"))) {
            char *end;
            const long n = strtol(v, &end, 10);
            if (end == v || *end || n < 1 || n > SEEDS) refuse("--seeds", "a number from 1 to 20", v);
            o->s.seeds = (uint64_t)n;
        } else
            refuse("the command line", "an option", line.argv[line.at]);
    }
    for (const char *at = o->tasks; at && *at;) {
        const size_t n = strcspn(at, ",");
        int known = 0;
        for (size_t i = 0; i < TASKS; i++) known |= strlen(task_key[i]) == n && !strncmp(at, task_key[i], n);
        if (!known) refuse("--tasks", "a list of people, images, text, ages", o->tasks);
        at += n + (at[n] == ',');
    }
    if (!o->s.seeds) o->s.seeds = o->quick ? 2 : 5;
    o->s.tuning_seeds = o->quick ? 2 : 3;
}

static void add_cell(study *s, task *t, uint32_t workers, uint32_t batch, uint32_t steps, int main) {
    cell *c = &s->cell[s->cells++];
    c->of = t;
    c->workers = workers;
    c->batch = batch;
    c->steps = steps;
    c->main = main;
}

/* The main cells first. */
static void plan(settings *o) {
    static const uint32_t workers[] = {4, 8, 16, 32}, batch[] = {4, 16};
    study *s = &o->s;
    task *people = NULL;
    if (option_lists(o->tasks, "people")) {
        people = &s->task[s->tasks++];
        task_people(people, o->adult, 0);
        add_cell(s, people, 8, 16, o->quick ? 60 : 400, 1);
    }
    if (option_lists(o->tasks, "images")) {
        task *t = &s->task[s->tasks++];
        task_images(t, o->images);
        add_cell(s, t, 8, 8, o->quick ? 20 : 240, 1);
    }
    if (option_lists(o->tasks, "text")) {
        task *t = &s->task[s->tasks++];
        task_text(t, o->text);
        add_cell(s, t, 8, 2, o->quick ? 20 : 400, 1);
    }
    if (option_lists(o->tasks, "ages")) {
        task *t = &s->task[s->tasks++];
        task_people(t, o->adult, 1);
        add_cell(s, t, 8, 16, o->quick ? 60 : 400, 1);
    }
    for (size_t b = 0; people && b < 2; b++)
        for (size_t n = 0; n < 4; n++)
            if (!(workers[n] == 8 && batch[b] == 16) && (!o->quick || (workers[n] == 32 && batch[b] == 4)))
                add_cell(s, people, workers[n], batch[b], o->quick ? 60 : 400, 0);
    if (people && !o->quick) add_cell(s, people, 8, 64, 400, 0);
}

int main(int argc, char **argv) {
    static settings o;
    study *s = &o.s;
    program_name = "bench-consensus";
    read_options(argc, argv, &o);
    plan(&o);
    if (o.rows_at) {
        rows_read(&s->rows, o.rows_at);
        s->rows_file = lines_append(o.rows_at);
        if (!s->rows_file) broken("%s: %s", o.rows_at, strerror(errno));
    }
    if (o.only_check) {
        for (size_t i = 0; i < s->tasks; i++) check_task(s, &s->task[i]);
    } else {
        for (size_t i = 0; i < s->cells; i++) study_cell(s, &s->cell[i]);
        report_beside(&s->out, o.rows_at);
        tell(s, o.rows_at, o.csv_at);
        report_close_text(&s->out);
        fprintf(stderr, "%zu runs, %.0f s of processor time\n", s->done, s->seconds);
    }
    if (s->rows_file) fclose(s->rows_file);
    for (size_t i = 0; i < s->tasks; i++) s->task[i].close(&s->task[i]);
    free(s->rows.row);
    return s->misses ? 1 : 0;
}
