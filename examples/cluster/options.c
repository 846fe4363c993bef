/* SPDX-License-Identifier: MIT */
#include "options.h"

#include "train/util.h"
#include "train/values.h"
#include "weft_codec_name.h"
#include "weft_topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const METHOD_NAME[METHODS] = {"dsgd_aau", "mean",    "subspace", "mgrawa", "lgrawa", "hpsgd",
                                          "qsaddle",  "nsaddle", "qgm",      "ngc",    "dpsgd",  "dsgdm"};
const char *const TASK_NAME[TASK_KINDS] = {"softmax", "mlp", "cnn", "quadratic"};

static const char USAGE[] =
    "usage: cluster [options]\n"
    "Simulates a cluster that trains: any number of workers in one thread and in virtual time. On every worker the\n"
    "library's own code runs; network, stragglers and faults are drawn from a seed. The same line gives the same\n"
    "output, byte for byte. All times are seconds of virtual time.\n"
    "\n"
    "  --algorithm NAME,...   dsgd_aau (default), mean, subspace, mgrawa, lgrawa, hpsgd, qsaddle, nsaddle, qgm, ngc, "
    "dpsgd,\n"
    "                         dsgdm (the last six: saddle.h, optimisers with Nesterov's momentum), or all\n"
    "  --workers N            (16; up to 10,000 with dsgd_aau and saddle.h, up to 256 with the others)\n"
    "  --seconds S            how long (60)\n"
    "  --seed N               (1)\n"
    "\n"
    "what they learn\n"
    "  --task NAME            softmax (default), mlp or cnn: classifiers of images, or quadratic: 16 numbers, each\n"
    "                         worker with a goal of its own, for thousands of workers\n"
    "  --data DIR             Fashion-MNIST, MNIST or CIFAR-10; without it: glyphs that the program draws itself\n"
    "  --batch N              samples a step and worker (32)\n"
    "  --hidden N             units of the mlp (128)\n"
    "  --lr X                 learning rate, constant (0.02)\n"
    "  --momentum X           (0.9; quadratic: 0)\n"
    "  --alpha X              how unequal the workers' labels are: Dirichlet parameter; 0 (default): alike\n"
    "\n"
    "how long a step takes (saddle.h: each gradient of it)\n"
    "  --compute WHAT         MEAN, uniform:MEAN:SPREAD, exponential:MEAN, lognormal:MEAN:SIGMA or pareto:MEAN:SHAPE\n"
    "                         (uniform:1:0.1)\n"
    "  --stragglers PxS       each step, with probability P, takes S times as long (0.1x10)\n"
    "  --slow COUNT:FACTOR    the first COUNT workers' steps always take FACTOR times as long\n"
    "  --deaf                 nobody looks at messages while computing (dsgd_aau, hpsgd, saddle.h; the others never\n"
    "                         do)\n"
    "\n";
static const char USAGE_MORE[] =
    "the network\n"
    "  --topology NAME        dsgd_aau, saddle.h: ring, chain, star, complete, torus[:RxC], hypercube, exponential "
    "(default),\n"
    "                         er:P (random, each edge with probability P), small:DEGREE:P\n"
    "  --latency S            of every message (0.001)\n"
    "  --jitter S             and up to so much more (0)\n"
    "  --bandwidth B          bytes a second of every link (1e9); 0: no limit\n"
    "  --loss P               each packet (of 1,400 bytes) is lost with this probability, and sent again, as by TCP;\n"
    "                         at most 0.5 (0)\n"
    "  --duplicate P          arrives twice (0)\n"
    "  --reorder P            arrives behind later ones (0)\n"
    "  --detect S             after so long others notice that a worker is lost, or a link (0.5)\n"
    "  --kill RANK:TIME       this worker is lost (may be repeated, as the next two)\n"
    "  --restart RANK:TIME    and comes back, with nothing left (dsgd_aau: takes over a neighbour's model;\n"
    "                         saddle.h: begins with the initial one)\n"
    "  --partition N:T1:T2    the first N workers and the others cannot reach each other from T1 to T2\n"
    "\n"
    "algorithms\n"
    "  --period N             grawa: local steps between two rounds (8)\n"
    "  --beta X               hpsgd: how much of its own change that is still under way a worker goes on with,\n"
    "                         0 (as published) to 1 (0.5)\n"
    "  --max-steps N          hpsgd: local steps without a result, at most (16)\n"
    "  --codec NAME           saddle.h: how messages are made smaller: none (default), bf16, f16, q8, q4,\n"
    "                         qsgd:BITS[:biased], topk:KEPT (the fraction that is sent), sign\n"
    "  --rho X                qsaddle, nsaddle: how far they climb before they differentiate (0.05)\n"
    "  --gamma X              saddle.h: how far to go towards the neighbours' average, above 0 to 1 (1; less for\n"
    "                         rough codecs)\n"
    "  --fan N                dsgd_aau: most neighbours in one averaging (8)\n"
    "  --grace S              dsgd_aau: how long a released worker waits for a leader (a 32nd of a step's time)\n"
    "  --coalesce S           dsgd_aau: news wait so long for a message to travel with (0)\n"
    "  --patience S           dsgd_aau: who has waited so long goes on alone (0: no such bound)\n"
    "\n"
    "  --csv FILE             every measured point as a line of numbers\n"
    "  --svg FILE             loss against virtual time, and below it what workers did when\n"
    "  --trace FILE           every event of the network, one a line (large)\n"
    "  --help\n";

bool method_has_members(method m) {
    return m != METHOD_DSGD_AAU && !method_is_saddle(m);
}

bool method_is_saddle(method m) {
    return m >= METHOD_QSADDLE && m <= METHOD_DSGDM;
}

static void methods(const char *text, bool run[METHODS]) {
    memset(run, 0, METHODS * sizeof *run);
    for (;;) {
        size_t length = strcspn(text, ",");
        if (length == 3 && strncmp(text, "all", 3) == 0)
            for (int i = 0; i < METHODS; i++) run[i] = true;
        else
            run[value_name(
                "--algorithm", text, length, METHOD_NAME, METHODS,
                "dsgd_aau, mean, subspace, mgrawa, lgrawa, hpsgd, qsaddle, nsaddle, qgm, ngc, dpsgd, dsgdm or "
                "all")] = true;
        if (!text[length]) return;
        text += length + 1;
    }
}

/* The text up to the next colon (or the end) goes to `out`; returns what follows it, NULL at the end. */
static const char *field(const char *option, const char *text, char *out, size_t capacity, const char *form) {
    size_t length = text ? strcspn(text, ":") : 0;
    if (length == 0 || length >= capacity) bad_input("%s: expected %s", option, form);
    memcpy(out, text, length);
    out[length] = 0;
    return text[length] ? text + length + 1 : NULL;
}

static void add_fault(options *o, const char *option, const char *text, fault_kind kind) {
    const char *form = kind == FAULT_PARTITION ? "WORKERS:FROM:UPTO" : "RANK:TIME";
    char part[32];
    if (o->faults == MOST_FAULTS) bad_input("%s: more than %d faults", option, MOST_FAULTS);
    planned_fault *f = &o->fault[o->faults++];
    memset(f, 0, sizeof *f);
    f->kind = kind;
    const char *rest = field(option, text, part, sizeof part, form);
    uint32_t who = (uint32_t)value_whole(option, part, kind == FAULT_PARTITION ? 1 : 0, MOST_WORKERS - 1);
    if (kind == FAULT_PARTITION)
        f->count = who;
    else
        f->rank = who;
    rest = field(option, rest, part, sizeof part, form);
    f->from = f->upto = value_number(option, part, 0.0, 1e9);
    if (kind == FAULT_PARTITION) {
        rest = field(option, rest, part, sizeof part, form);
        f->upto = value_number(option, part, f->from, 1e9);
    }
    if (rest) bad_input("%s: expected %s, got '%s'", option, form, text);
}

static void slow(const char *option, const char *text, weft_pace *p) {
    char part[32];
    const char *rest = field(option, text, part, sizeof part, "COUNT:FACTOR");
    p->slow = (uint32_t)value_whole(option, part, 0, MOST_WORKERS);
    if (!rest) bad_input("%s: expected COUNT:FACTOR, got '%s'", option, text);
    p->slow_factor = value_number(option, rest, 1.0, 1e6);
}

static void set(options *o, const char *option, const char *v) {
    /* clang-format off */
#define IS(text) (strcmp(option, text) == 0)
    if (IS("--algorithm")) methods(v, o->run);
    else if (IS("--workers")) o->workers = value_count(option, v, 1, MOST_WORKERS);
    else if (IS("--seconds")) o->seconds = value_number(option, v, 1e-3, 1e9);
    else if (IS("--seed")) o->seed = value_whole(option, v, 0, UINT64_MAX);
    else if (IS("--task"))
        o->task = (task_kind)value_name(option, v, strlen(v), TASK_NAME, TASK_KINDS, "softmax, mlp, cnn or quadratic");
    else if (IS("--data")) o->data = v;
    else if (IS("--batch")) o->batch = value_count(option, v, 1, 65536);
    else if (IS("--hidden")) o->hidden = value_count(option, v, 1, 65536);
    else if (IS("--lr")) o->rate = value_number(option, v, 0.0, 1e6);
    else if (IS("--momentum")) o->momentum = value_number(option, v, 0.0, 0.9999);
    else if (IS("--alpha")) o->alpha = value_number(option, v, 0.0, 1e6);
    else if (IS("--compute")) {
        if (!weft_pace_parse(&o->pace, v))
            bad_input("%s: expected MEAN, uniform:MEAN:SPREAD, exponential:MEAN, lognormal:MEAN:SIGMA or "
                      "pareto:MEAN:SHAPE, got '%s'", option, v);
    }
    else if (IS("--stragglers")) {
        if (!weft_pace_parse_stragglers(&o->pace, v))
            bad_input("%s: expected PROBABILITYxSLOWDOWN, from 0 to 1 and from 1 to 1e6, got '%s'", option, v);
    }
    else if (IS("--slow")) slow(option, v, &o->pace);
    else if (IS("--topology")) o->topology = v;
    else if (IS("--latency")) o->latency = value_number(option, v, 0.0, 1e6);
    else if (IS("--jitter")) o->jitter = value_number(option, v, 0.0, 1e6);
    else if (IS("--bandwidth")) o->bandwidth = value_number(option, v, 0.0, 1e12);
    else if (IS("--loss")) o->loss = value_number(option, v, 0.0, 0.5);
    else if (IS("--duplicate")) o->duplicate = value_number(option, v, 0.0, 0.5);
    else if (IS("--reorder")) o->reorder = value_number(option, v, 0.0, 0.5);
    else if (IS("--detect")) o->detect = value_number(option, v, 0.0, 1e6);
    else if (IS("--kill")) add_fault(o, option, v, FAULT_KILL);
    else if (IS("--restart")) add_fault(o, option, v, FAULT_RESTART);
    else if (IS("--partition")) add_fault(o, option, v, FAULT_PARTITION);
    else if (IS("--period")) o->period = value_count(option, v, 1, 1000000);
    else if (IS("--beta")) o->beta = value_number(option, v, 0.0, 1.0);
    else if (IS("--max-steps")) o->most_steps = value_count(option, v, 1, 1000000);
    else if (IS("--codec")) {
        if (!weft_codec_parse(&o->codec, v)) bad_input("%s: expected " WEFT_CODEC_NAMES ", got '%s'", option, v);
    }
    else if (IS("--rho")) o->rho = value_number(option, v, 0.0, 1e6);
    else if (IS("--gamma")) o->gamma = value_above_zero(option, v, 1.0);
    else if (IS("--fan")) o->fan = (uint32_t)value_whole(option, v, 1, MOST_WORKERS);
    else if (IS("--grace")) o->grace = value_number(option, v, 0.0, 1e6);
    else if (IS("--coalesce")) o->coalesce = value_number(option, v, 0.0, 1e6);
    else if (IS("--patience")) o->patience = value_number(option, v, 0.0, 1e6);
    else if (IS("--csv")) o->csv = v;
    else if (IS("--svg")) o->svg = v;
    else if (IS("--trace")) o->trace = v;
    else bad_input("unknown option '%s' (--help lists them)", option);
#undef IS
    /* clang-format on */
}

/* What no option alone can tell. */
static void check(const options *o) {
    weft_graph graph;
    char why[240];
    void *memory;
    bool graphs = false;
    for (int m = 0; m < METHODS; m++) {
        graphs = graphs || (o->run[m] && !method_has_members((method)m));
        if (o->run[m] && method_is_saddle((method)m) && !(o->rate > 0.0))
            bad_input("--lr: expected a number above 0 for %s, got %g", METHOD_NAME[m], o->rate);
        if (!o->run[m] || !method_has_members((method)m)) continue;
        if (o->workers > MOST_MEMBERS)
            bad_input("--workers: expected at most %d for %s, got %zu", MOST_MEMBERS, METHOD_NAME[m], o->workers);
        for (size_t i = 0; i < o->faults; i++)
            if (o->fault[i].kind == FAULT_RESTART)
                bad_input("--restart: expected algorithms on graphs only (dsgd_aau, qsaddle, ...), got %s (which needs "
                          "somebody who says when)",
                          METHOD_NAME[m]);
    }
    bool killed[MOST_WORKERS] = {false};
    size_t kills = 0;
    for (size_t i = 0; i < o->faults; i++) {
        const planned_fault *f = &o->fault[i];
        if (f->kind == FAULT_KILL && f->rank < o->workers && !killed[f->rank]) {
            killed[f->rank] = true;
            kills++;
        }
        if (f->kind == FAULT_PARTITION && f->count >= o->workers)
            bad_input("--partition: expected fewer than %zu workers on one side, got %lu", o->workers,
                      (unsigned long)f->count);
        if (f->kind != FAULT_PARTITION && f->rank >= o->workers)
            bad_input("--kill and --restart: expected a rank below %zu, got %lu", o->workers, (unsigned long)f->rank);
    }
    if (kills == o->workers) bad_input("--kill: somebody must be left, got all %zu workers", o->workers);
    if (graphs) {
        memory = weft_topology_make(o->topology, (uint32_t)o->workers, o->seed, &graph, why, sizeof why);
        if (!memory) bad_input("--topology: %s", why);
        free(memory);
    }
    value_can_write("--csv", o->csv);
    value_can_write("--svg", o->svg);
    value_can_write("--trace", o->trace);
}

void options_parse(options *o, int argc, char **argv) {
    memset(o, 0, sizeof *o);
    o->run[METHOD_DSGD_AAU] = true;
    o->workers = 16;
    o->seconds = 60.0;
    o->seed = 1;
    o->batch = 32;
    o->hidden = 128;
    o->period = 8;
    o->rate = 0.02;
    o->momentum = -1.0; /* not said */
    o->pace = weft_pace_default();
    weft_pace_parse(&o->pace, "uniform:1:0.1");
    o->topology = "exponential";
    o->latency = 0.001;
    o->bandwidth = 1e9;
    o->detect = 0.5;
    o->beta = 0.5;
    o->most_steps = 16;
    o->codec = weft_codec_identity();
    o->rho = 0.05;
    o->gamma = 1.0;
    o->fan = 8;
    o->grace = -1.0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(USAGE, stdout);
            fputs(USAGE_MORE, stdout);
            exit(EXIT_SUCCESS);
        }
        if (strcmp(argv[i], "--deaf") == 0) {
            o->deaf = true;
            continue;
        }
        if (strncmp(argv[i], "--", 2) != 0) bad_input("unexpected '%s' (--help lists the options)", argv[i]);
        if (i + 1 == argc) bad_input("%s: no such option, or its value is missing", argv[i]);
        set(o, argv[i], argv[i + 1]);
        i++;
    }
    if (o->momentum < 0.0) o->momentum = o->task == TASK_QUADRATIC ? 0.0 : 0.9;
    check(o);
}
