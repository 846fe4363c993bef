/* SPDX-License-Identifier: MIT
 * bench-stragglers: what waiting for few neighbours is worth when some are slow. DSGD-AAU, as the paper's rule and as
 * the message protocol of dsgd_aau.h, beside synchronous DSGD, AD-PSGD, a partial all-reduce and push-sum, in virtual
 * time: the numbers depend on the seed, not on this machine. The status is 1 if something that was to be seen was not.
 *
 * The rules and tasks are in stragglers/; each part of the study has a file there. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define DSGD_AAU_IMPLEMENTATION
#include "dsgd_aau.h"
#include "transports/weft_pace.h"
#include "transports/weft_sim.h"

#include "options.h"

#include "stragglers/study_models.h"
#include "stragglers/study_network.h"
#include "stragglers/study_speedup.h"
#include "stragglers/study_time.h"
#include "stragglers/study_waiting.h"

#include <errno.h>

static const struct {
    const char *name, *what;
    void (*run)(study *s);
} parts[] = {
    {"time", "time to the target, 4 to 256 workers", study_time},
    {"speedup", "gradients a worker to a fixed loss, 1 to 64 workers", study_speedup},
    {"persistent", "bias under a worker that is always slow", study_persistent},
    {"neighbours", "how many neighbours an averaging has", study_neighbours},
    {"age", "how old parameters are when their gradient is applied", study_age},
    {"network", "what the protocol owes to its settings and to the network", study_network},
    {"models", "time to accuracy of networks", study_models},
};
enum { PARTS = sizeof parts / sizeof *parts };

typedef struct settings {
    const char *what, *rows_at, *csv_at;
    study s;
} settings;

static void usage(void) {
    puts("usage: bench-stragglers [options]\n"
         "  --what LIST    parts of the study, or all (the default):");
    for (size_t i = 0; i < PARTS; i++) printf("                   %-11s %s\n", parts[i].name, parts[i].what);
    puts("  --quick        fewer workers, one seed: a look; nothing is checked then\n"
         "  --seeds N      runs of each kind, 1 to 20 (3); networks: one\n"
         "  --seed N       the first of them (1)\n"
         "  --images DIR   MNIST's or CIFAR-10's files for `models`; without: generated glyphs\n"
         "  --text FILE    text for `models`; without: none\n"
         "  --json FILE    a row for each run as JSON lines; report and pictures beside it\n"
         "  --csv FILE     the same rows, separated by commas");
}

static _Noreturn void refuse(const char *option, const char *expected, const char *got) {
    fprintf(stderr, "bench-stragglers: %s: %s is expected, not '%s' (--help lists the options)\n", option, expected,
            got);
    exit(2);
}

static uint64_t whole(const char *option, const char *text, uint64_t least, uint64_t most) {
    char *end, range[64];
    unsigned long long v;
    errno = 0;
    v = strtoull(text, &end, 10);
    snprintf(range, sizeof range, "a whole number from %llu to %llu", (unsigned long long)least,
             (unsigned long long)most);
    if (!isdigit((unsigned char)*text) || *end || errno || v < least || v > most) refuse(option, range, text);
    return v;
}

/* Every word of the list is a part's name. */
static void check_parts(const char *list) {
    char names[256] = "all";
    for (size_t i = 0; i < PARTS; i++) {
        strcat(names, ", ");
        strcat(names, parts[i].name);
    }
    for (const char *at = list;; at++) {
        const size_t n = strcspn(at, ",");
        int known = n == 3 && !strncmp(at, "all", 3);
        for (size_t i = 0; i < PARTS; i++) known |= strlen(parts[i].name) == n && !strncmp(at, parts[i].name, n);
        if (!known) refuse("--what", names, list);
        at += n;
        if (!*at) return;
    }
}

static void read_options(int argc, char **argv, settings *o) {
    options line = {argc, 1, argv};
    int seeds_given = 0;
    o->what = "all";
    o->s.seed = 1;
    o->s.seeds = 3;
    while (line.at < line.argc) {
        const char *v;
        if (option_switch(&line, "--help")) {
            usage();
            exit(0);
        }
        if (option_switch(&line, "--quick"))
            o->s.quick = 1;
        else if ((v = option_value(&line, "--what")))
            o->what = v;
        else if ((v = option_value(&line, "--seeds"))) {
            o->s.seeds = whole("--seeds", v, 1, MOST_SEEDS);
            seeds_given = 1;
        } else if ((v = option_value(&line, "--seed")))
            o->s.seed = whole("--seed", v, 1, 1000000);
        else if ((v = option_value(&line, "--images")))
            o->s.images = v;
        else if ((v = option_value(&line, "--text")))
            o->s.text = v;
        else if ((v = option_value(&line, "--json")))
            o->rows_at = v;
        else if ((v = option_value(&line, "--csv")))
            o->csv_at = v;
        else
            refuse("the command line", "an option", line.argv[line.at]);
    }
    check_parts(o->what);
    if (o->s.quick && !seeds_given) o->s.seeds = 1;
}

/* Pictures are named after the file of rows, without its ending. */
static void name_pictures(study *s, const char *rows_at) {
    if (rows_at) report_path(s->stem, rows_at, "");
}

int main(int argc, char **argv) {
    static settings o;
    study *s = &o.s;
    read_options(argc, argv, &o);
    machine_describe(&s->machine);
    report_open(&s->out, o.rows_at);
    name_pictures(s, o.rows_at);
    if (o.csv_at && !(s->csv = fopen(o.csv_at, "w"))) {
        fprintf(stderr, "bench-stragglers: %s: %s\n", o.csv_at, strerror(errno));
        return 2;
    }
    if (s->csv) fputs(csv_head, s->csv);
    report_say(&s->out, "# Stragglers\n\n- Written by `build/bench-stragglers`: seeds %llu to %llu%s.\n",
               (unsigned long long)s->seed, (unsigned long long)(s->seed + s->seeds - 1),
               s->quick ? ", a quick look" : "");
    machine_report(&s->machine, &s->out);
    report_say(&s->out, "- Virtual time: what it was run on makes no difference to the numbers.\n\n");
    for (size_t i = 0; i < PARTS; i++)
        if (option_lists(o.what, "all") || option_lists(o.what, parts[i].name)) parts[i].run(s);
    report_say(
        &s->out,
        "Averaging moves the mean of all models by rounding only: the mean less what gradients have done to it is "
        "off by\nat most %.1e, in all runs of rules without a network.\n",
        s->worst_leak);
    if (s->misses && !s->quick) report_say(&s->out, "\n%d checks missed.\n", s->misses);
    report_close(&s->out);
    if (s->csv && fclose(s->csv)) fprintf(stderr, "bench-stragglers: %s: %s\n", o.csv_at, strerror(errno));
    return s->misses && !s->quick ? 1 : 0;
}
