/* SPDX-License-Identifier: MIT
 * bench-heterogeneity: what SADDLe is worth where agents' data differ, and whether it stands compression better than
 * what it builds on. Six rules, all of them settings of saddle.h, by how one-sided the agents' data are, by codec, by
 * seed; accuracy and sharpness of what comes out. The status is 1 if something that was to be seen was not.
 *
 * Every run is a line of the JSON file; runs whose line is there are not repeated, so that a study can be stopped and
 * gone on with, and tables, verdicts and picture are made from the lines alone. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define SADDLE_IMPLEMENTATION
#include "saddle.h"
#include "transports/weft_sim.h"

#include "machine.h"
#include "options.h"

#include "heterogeneity/published.h"
#include "heterogeneity/tell.h"

typedef struct settings {
    const char *images, *rows_at, *check_at, *codecs;
    unsigned threads;
    int quick, tune, only_tell;
    study s;
} settings;

static void usage(void) {
    puts("usage: bench-heterogeneity [options]\n"
         "Trains a perceptron on images whose labels are spread one-sidedly over agents, by D-PSGD, DSGDm-N, QGM, "
         "Q-SADDLe, NGC\n"
         "and N-SADDLe, compressed or not, and measures accuracy and sharpness of what comes out.\n"
         "\n"
         "  --images DIR       Fashion-MNIST or MNIST; without it: glyphs that the program draws itself\n"
         "  --cifar DIR        CIFAR-10's binary files instead (10,000 images are enough)\n"
         "  --topology NAME    ring, torus (ring)\n"
         "  --agents N         (10; 5 to 40)\n"
         "  --alphas LIST      of Dirichlet's distribution (0.01,0.1,0.001: run in this order)\n"
         "  --codecs LIST      of q8, top8, top30 beside none (all of them; top30 at alpha 0.01 only)\n"
         "  --gamma G          averaging rate, for all codecs; without it: what was found best for each\n"
         "  --rho R            radius of the climb (0.1)\n"
         "  --seeds N          (5; 1 to 20)\n"
         "  --epochs N         (20; 1 to 1,000)\n"
         "  --threads N        runs at a time (2; 1 to 64); makes no difference to the numbers\n"
         "  --quick            4 epochs, 2 seeds, alpha 0.01, none and q8: a look; nothing is checked then\n"
         "  --tune             find step sizes and averaging rates, on other seeds\n"
         "  --tell             no runs: tables and picture of the rows that are there\n"
         "  --shares FILE      check the partition against published ones (partition.json), and nothing else\n"
         "  --json FILE        a row for each run; report and picture beside it. Runs that it has are not repeated\n"
         "  --help");
}

static _Noreturn void refuse(const char *option, const char *expected, const char *got) {
    bad_input("%s: %s is expected, not '%s' (--help lists the options)", option, expected, got);
}

static double number(const char *option, const char *text, double least, double most) {
    return option_number("bench-heterogeneity", option, text, least, most);
}

static int read_alphas(const char *text, double *alpha) {
    int n = 0;
    for (const char *at = text;;) {
        char *end;
        const double v = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(v >= 1e-4 && v <= 1000) || n == TELL_ALPHAS)
            refuse("--alphas", "a list of up to 8 numbers from 0.0001 to 1000", text);
        alpha[n++] = v;
        if (!*end) return n;
        at = end + 1;
    }
}

static void read_codecs(const char *list, int *codings) {
    for (int c = 0; c < CODINGS; c++) codings[c] = c == CODING_NONE || option_lists(list, coding_key[c]);
    for (const char *at = list; at && *at;) {
        const size_t n = strcspn(at, ",");
        int known = 0;
        for (int c = 0; c < CODINGS; c++) known |= strlen(coding_key[c]) == n && !strncmp(at, coding_key[c], n);
        if (!known) refuse("--codecs", "a list of none, q8, top8, top30", list);
        at += n + (at[n] == ',');
    }
}

static void read_options(int argc, char **argv, settings *o) {
    options line = {argc, 1, argv};
    run_desc *b = &o->s.base;
    b->topology = "ring";
    b->agents = 10;
    b->rho = 0.1;
    o->threads = 2;
    while (line.at < line.argc) {
        const char *v;
        if (option_switch(&line, "--help")) {
            usage();
            exit(0);
        }
        if (option_switch(&line, "--quick"))
            o->quick = 1;
        else if (option_switch(&line, "--tune"))
            o->tune = 1;
        else if (option_switch(&line, "--tell"))
            o->only_tell = 1;
        else if ((v = option_value(&line, "--images")) || (v = option_value(&line, "--cifar")))
            o->images = v;
        else if ((v = option_value(&line, "--topology"))) {
            if (strcmp(v, "ring") && strcmp(v, "torus")) refuse("--topology", "ring or torus", v);
            b->topology = !strcmp(v, "ring") ? "ring" : "torus";
        } else if ((v = option_value(&line, "--agents")))
            b->agents = (uint32_t)number("--agents", v, 5, 40);
        else if ((v = option_value(&line, "--alphas")))
            o->s.alphas = read_alphas(v, o->s.alpha);
        else if ((v = option_value(&line, "--codecs")))
            o->codecs = v;
        else if ((v = option_value(&line, "--gamma")))
            o->s.gamma = number("--gamma", v, 0.001, 1);
        else if ((v = option_value(&line, "--rho")))
            b->rho = number("--rho", v, 1e-4, 10);
        else if ((v = option_value(&line, "--seeds")))
            o->s.seeds = (uint64_t)number("--seeds", v, 1, TELL_SEEDS);
        else if ((v = option_value(&line, "--epochs")))
            b->epochs = (uint32_t)number("--epochs", v, 1, 1000);
        else if ((v = option_value(&line, "--threads")))
            o->threads = (unsigned)number("--threads", v, 1, GRID_MOST_THREADS);
        else if ((v = option_value(&line, "--json")))
            o->rows_at = v;
        else if ((v = option_value(&line, "--shares")))
            o->check_at = v;
        else
            refuse("the command line", "an option", line.argv[line.at]);
    }
    if (!o->codecs && o->quick) o->codecs = "none,q8";
    read_codecs(o->codecs, o->s.codings);
    o->s.all_alphas = o->codecs != NULL;
    if (!o->s.alphas) o->s.alphas = read_alphas(o->quick ? "0.01" : "0.01,0.1,0.001", o->s.alpha);
    if (!o->s.seeds) o->s.seeds = o->quick ? 2 : 5;
    if (!b->epochs) b->epochs = o->quick ? 4 : 20;
}

/* A seed of everything, then the next seed. `top30` belongs to no 4x: it is there to compare with what others have
 * measured, at alpha 0.01, unless it is asked for by name. */
static void plan(study *s) {
    for (int a = 0; a < s->alphas; a++)
        for (uint64_t seed = 1; seed <= s->seeds; seed++)
            for (int c = 0; c < CODINGS; c++)
                for (int m = 0; m < RULES && study_wants(s, s->alpha[a], (coding)c); m++) {
                    const run_desc d = study_run(s, s->alpha[a], (rule)m, (coding)c, seed);
                    grid_add(&s->g, &d);
                }
}

int main(int argc, char **argv) {
    static settings o;
    static dataset data;
    study *s = &o.s;
    program_name = "bench-heterogeneity";
    read_options(argc, argv, &o);
    if (o.check_at) return shares_check(o.check_at);
    data_open(&data, o.images);
    s->g.data = &data;
    s->base.data = data.name;
    s->base.images = (uint32_t)(data.train.count / s->base.agents < 1000 ? data.train.count / s->base.agents : 1000);
    if (s->base.images < LEARN_BATCH)
        bad_input("%zu images are too few for %u agents", data.train.count, s->base.agents);
    if (o.only_tell && o.rows_at)
        rows_read(&s->g.rows, o.rows_at);
    else if (o.rows_at)
        grid_file(&s->g, o.rows_at);
    report_beside(&s->out, o.rows_at);
    if (o.tune) {
        report_say(&s->out, "# Tuning of the study of heterogeneity\n\n");
        tuning_run(&s->g, s->base, o.threads, &s->out);
    } else {
        plan(s);
        if (!o.only_tell) grid_run(&s->g, o.threads);
        tell(s, o.rows_at);
    }
    report_close_text(&s->out);
    grid_close(&s->g);
    dataset_free(&data);
    return s->misses && !o.quick ? 1 : 0;
}
