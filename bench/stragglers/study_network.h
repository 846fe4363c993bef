/* SPDX-License-Identifier: MIT
 * study_network.h: what the protocol owes to its settings and to the network: polling while computing, grace, stars or
 * pairs, latency. */
#ifndef STRAGGLERS_STUDY_NETWORK_H
#define STRAGGLERS_STUDY_NETWORK_H

#include "study.h"

/* A setting, and seconds until the mean model is at the target with 16 and 64 workers in the independent simulation
 * (step size 0.4; not given: NAN). */
typedef struct network_case {
    const char *name, *key;
    network net;
    double theirs[2];
} network_case;

#define NONE (double)NAN
static const network_case network_cases[] = {
    {"as in the time study", "default", {0.005, 0.025, 0.030, 0.020, 8, 0}, {201.0, 149.9}},
    {"nobody polls while it computes", "deaf", {0.005, 0.025, 0.030, 0.020, 8, 1}, {NONE, NONE}},
    {"no grace", "no-grace", {0.005, 0.025, 0.0, 0.020, 8, 0}, {NONE, NONE}},
    {"grace 0.2 s", "long-grace", {0.005, 0.025, 0.2, 0.020, 8, 0}, {NONE, NONE}},
    {"no coalescing", "no-coalescing", {0.005, 0.025, 0.030, 0.0, 8, 0}, {NONE, NONE}},
    {"pairs only (fan 1)", "pairs", {0.005, 0.025, 0.030, 0.020, 1, 0}, {192.0, 134.0}},
    {"latency 1 ms, a model 50 ms", "latency-1", {0.001, 0.050, 0.030, 0.020, 8, 0}, {191.0, NONE}},
    {"latency 50 ms, a model 50 ms, grace 0.1 s", "latency-50", {0.050, 0.050, 0.1, 0.020, 8, 0}, {213.0, NONE}},
    {"latency 200 ms, a model 50 ms, grace 0.4 s", "latency-200", {0.200, 0.050, 0.4, 0.020, 8, 0}, {239.0, NONE}},
};
enum { NETWORK_CASES = sizeof network_cases / sizeof *network_cases };
#undef NONE

static inline void study_network(study *s) {
    static const uint32_t counts[2] = {16, 64};
    const weft_pace pace = pace_of(0.1, 10.0);
    table *t = table_new(">workers|setting|>t(mean)|>t(all)|>theirs: t(mean)|>gradients a worker|>a worker a second|"
                         ">idle|>alone|>neighbours|>epochs a second|>control bytes a gradient");
    for (int n = 0; n < (s->quick ? 1 : 2); n++)
        for (int c = 0; c < NETWORK_CASES; c++) {
            const network_case *k = &network_cases[c];
            double mean[MOST_SEEDS], all[MOST_SEEDS], gradients = 0, rate = 0, idle = 0, alone = 0, with = 0;
            double epochs = 0, control = 0;
            const double part = 1.0 / (double)s->seeds;
            fprintf(stderr, "network: %u workers, %s\n", counts[n], k->name);
            for (uint64_t i = 0; i < s->seeds; i++) {
                const logistic_desc d = logistic_noniid(counts[n], s->seed + i);
                static outcome o;
                weft_graph graph;
                void *memory = graph_open(&graph, counts[n], s->seed + i);
                trial u;
                task problem;
                logistic_open(&problem, &d);
                u = trial_of(&problem, &graph, &pace, s->seed + i, 0.4);
                run_protocol(&u, &k->net, &o);
                study_row(s, "network", k->key, &u, &o);
                mean[i] = o.t_mean;
                all[i] = o.t_all;
                gradients += o.gradients * part;
                rate += o.rate * part;
                idle += o.idle * part;
                alone += 100.0 * (double)o.neighbours[0] / (double)outcome_participations(&o) * part;
                with += o.averaged * part;
                epochs += o.epochs / o.end * part;
                control += (double)o.control_bytes / (double)o.steps * part;
                logistic_close(&problem);
                free(memory);
            }
            table_row(t);
            table_cell(t, "%u", counts[n]);
            table_cell(t, "%s", k->name);
            cell_spread(t, spread_of(mean, (size_t)s->seeds), 1);
            cell_spread(t, spread_of(all, (size_t)s->seeds), 1);
            cell_number(t, k->theirs[n], 1);
            table_cell(t, "%.1f", gradients);
            table_cell(t, "%.3f", rate);
            table_cell(t, "%.2f", idle);
            table_cell(t, "%.0f %%", alone);
            table_cell(t, "%.2f", with);
            table_cell(t, "%.3f", epochs);
            table_cell(t, "%.0f", control);
        }
    report_say(&s->out,
               "## What the protocol owes to its settings\n\nThe time study's problem, step size 0.4; latency 5 ms, a "
               "model 25 ms, grace 30 ms, coalescing 20 ms, fan 8 but for what\nis named. Alone: steps that were not "
               "averaged with anybody. Seeds: %llu.\n\n",
               (unsigned long long)s->seeds);
    table_print(t, &s->out);
}

#endif
