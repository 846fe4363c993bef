/* SPDX-License-Identifier: MIT
 * study_waiting.h: what a rule's way of waiting does: bias under a worker that is always slow, how many neighbours an
 * averaging has, and how old parameters are when a gradient of theirs is applied. */
#ifndef STRAGGLERS_STUDY_WAITING_H
#define STRAGGLERS_STUDY_WAITING_H

#include "study.h"

/* ---- bias ---- */

static inline void study_persistent(study *s) {
    static const struct {
        uint32_t workers;
        const char *theirs[METHODS];
    } of[2] = {{4, {"0.009 to 0.011", "-", "-", "0.015 to 0.033", "-", "-"}},
               {16, {"0.002 to 0.003", "-", "-", "0.002 to 0.003", "-", "-"}}};
    const double horizon = s->quick ? 1000.0 : 8000.0;
    table *t =
        table_new(">workers|rule|>share of the gap left|>without a straggler|>theirs|>gradients a worker a second");
    for (int n = 0; n < 2; n++) {
        double left[2][METHODS][MOST_SEEDS], rate[METHODS] = {0};
        fprintf(stderr, "persistent: %u workers\n", of[n].workers);
        for (uint64_t i = 0; i < s->seeds; i++) {
            const logistic_desc d = logistic_noniid(of[n].workers, s->seed + i);
            weft_graph graph;
            void *memory = graph_open(&graph, of[n].workers, s->seed + i);
            task k;
            logistic_open(&k, &d);
            for (int m = 0; m < METHODS; m++)
                for (int slow = 0; slow < 2; slow++) {
                    static outcome o;
                    weft_pace pace = pace_of(0.0, 1.0);
                    trial u;
                    pace.slow = (uint32_t)slow;
                    pace.slow_factor = 10.0;
                    u = trial_of(&k, &graph, &pace, s->seed + i, 0.1);
                    u.horizon = horizon;
                    u.plateau_from = horizon / 2.0;
                    u.interval = 1.0;
                    method_run((method)m, &u, &o);
                    study_row(s, slow ? "persistent" : "persistent-none", method_key[m], &u, &o);
                    left[slow][m][i] = o.plateau;
                    if (slow) rate[m] += o.rate / (double)s->seeds;
                }
            logistic_close(&k);
            free(memory);
        }
        for (int m = 0; m < METHODS; m++) {
            table_row(t);
            table_cell(t, "%u", of[n].workers);
            table_cell(t, "%s", method_name[m]);
            cell_spread(t, spread_of(left[1][m], (size_t)s->seeds), 4);
            cell_spread(t, spread_of(left[0][m], (size_t)s->seeds), 4);
            table_cell(t, "%s", of[n].theirs[m]);
            table_cell(t, "%.3f", rate[m]);
        }
    }
    report_say(
        &s->out,
        "## Bias under a persistent straggler\n\n"
        "One worker always takes ten times as long, step size 0.1: share of the initial gap that the mean model keeps, "
        "mean\n"
        "over the second half of %.0f s, noise floor included, beside that of the same run without the slow worker. "
        "What is\n"
        "above that is bias, and for the slowest rules what has not converged yet: who steps more often weighs more, "
        "and the\n"
        "mean leans towards the data of fast workers. (With push-sum slow workers gather weight, by which their steps "
        "are\n"
        "scaled.) Seeds: %llu, each with a problem of its own.\n\n",
        horizon, (unsigned long long)s->seeds);
    table_print(t, &s->out);
}

/* ---- neighbours ---- */

enum { RATES = 6, BUCKETS = 7 };
static const double neighbours_rate[RATES] = {0.0, 0.05, 0.1, 0.2, 0.3, 0.5};
static const int neighbours_upto[BUCKETS] = {0, 1, 2, 4, 8, 15, MOST_NEIGHBOURS};

static inline void study_neighbours(study *s) {
    const uint32_t workers = s->quick ? 16 : 64;
    const double horizon = s->quick ? 60.0 : 150.0;
    static double x[MOST_NEIGHBOURS + 1], y[RATES][MOST_NEIGHBOURS + 1];
    static char name[RATES][32];
    plot_series series[RATES];
    const plot_panel panel = {NULL,  "neighbours (the last: so many or more)", "% of participations", 0, 60, RATES,
                              series};
    table *t = table_new("rule|>stragglers|>neighbours|>none|>1|>2|>3-4|>5-8|>9-15|>16 or more|>idle|"
                         ">gradients a worker a second");
    for (int m = AAU_IDEAL; m <= AAU_PROTOCOL; m++)
        for (int q = 0; q < RATES; q++) {
            const weft_pace pace = pace_of(neighbours_rate[q], 10.0);
            double averaged = 0.0, idle = 0.0, rate = 0.0, share[MOST_NEIGHBOURS + 1] = {0};
            fprintf(stderr, "neighbours: %s, %g\n", method_name[m], neighbours_rate[q]);
            for (uint64_t i = 0; i < s->seeds; i++) {
                const logistic_desc d = logistic_noniid(workers, s->seed + i);
                static outcome o;
                weft_graph graph;
                void *memory = graph_open(&graph, workers, s->seed + i);
                trial u;
                task k;
                logistic_open(&k, &d);
                u = trial_of(&k, &graph, &pace, s->seed + i, 0.2);
                u.horizon = u.plateau_from = horizon;
                u.interval = 5.0;
                method_run((method)m, &u, &o);
                study_row(s, "neighbours", method_key[m], &u, &o);
                averaged += o.averaged / (double)s->seeds;
                idle += o.idle / (double)s->seeds;
                rate += o.rate / (double)s->seeds;
                for (int b = 0; b <= MOST_NEIGHBOURS; b++)
                    share[b] +=
                        100.0 * (double)o.neighbours[b] / ((double)outcome_participations(&o) * (double)s->seeds);
                logistic_close(&k);
                free(memory);
            }
            table_row(t);
            table_cell(t, "%s", method_name[m]);
            table_cell(t, "%.0f %%", 100.0 * neighbours_rate[q]);
            table_cell(t, "%.2f", averaged);
            for (int b = 0, from = 0; b < BUCKETS; from = neighbours_upto[b++] + 1) {
                double sum = 0.0;
                for (int k = from; k <= neighbours_upto[b]; k++) sum += share[k];
                table_cell(t, "%.1f %%", sum);
            }
            table_cell(t, "%.2f", idle);
            table_cell(t, "%.3f", rate);
            if (m != AAU_IDEAL) continue;
            for (int b = 0; b <= MOST_NEIGHBOURS; b++) {
                x[b] = b;
                y[q][b] = share[b];
            }
            snprintf(name[q], sizeof name[q], "%.0f %% x 10", 100.0 * neighbours_rate[q]);
            series[q] = (plot_series){name[q], q + 1, MOST_NEIGHBOURS + 1, x, y[q]};
        }
    report_say(&s->out,
               "## How many neighbours\n\nThe adaptive number, seen: shares of participations by the neighbours "
               "averaged with, %u workers of which each has about\n%.0f neighbours, the chance that a gradient takes "
               "ten times as long from 0 to 50 %%. Ideal: all available neighbours. Protocol:\na star of a leader and "
               "at most 8 leaves; a leaf has one neighbour, its leader. Mean over seeds: %llu.\n\n",
               workers, 0.25 * (workers - 1), (unsigned long long)s->seeds);
    table_print(t, &s->out);
    study_picture(s, "_neighbours", "Neighbours by straggler rate (ideal rule)", 1, &panel);
}

/* ---- age ---- */

static inline void study_age(study *s) {
    static const uint32_t counts[3] = {4, 16, 64};
    static const method of[3] = {AAU_IDEAL, AAU_PROTOCOL, ADPSGD};
    table *t = table_new(">workers|rule|>age, s|>written meanwhile");
    for (int n = 0; n < (s->quick ? 2 : 3); n++)
        for (int m = 0; m < 3; m++) {
            double seconds[MOST_SEEDS], writes[MOST_SEEDS];
            fprintf(stderr, "age: %u workers, %s\n", counts[n], method_name[of[m]]);
            for (uint64_t i = 0; i < s->seeds; i++) {
                const weft_pace pace = pace_of(0.1, 10.0);
                const logistic_desc d = logistic_noniid(counts[n], s->seed + i);
                static outcome o;
                weft_graph graph;
                void *memory = graph_open(&graph, counts[n], s->seed + i);
                trial u;
                task k;
                logistic_open(&k, &d);
                u = trial_of(&k, &graph, &pace, s->seed + i, 0.2);
                u.horizon = u.plateau_from = 200.0;
                u.interval = 5.0;
                method_run(of[m], &u, &o);
                study_row(s, "age", method_key[of[m]], &u, &o);
                seconds[i] = o.age_seconds;
                writes[i] = o.age_writes;
                logistic_close(&k);
                free(memory);
            }
            table_row(t);
            table_cell(t, "%u", counts[n]);
            table_cell(t, "%s", method_name[of[m]]);
            cell_spread(t, spread_of(seconds, (size_t)s->seeds), 2);
            cell_spread(t, spread_of(writes, (size_t)s->seeds), 2);
        }
    report_say(&s->out,
               "## Age of parameters\n\nWhen a gradient is applied: seconds since the parameters that it was taken at "
               "were read, and how often these have\nbeen written since (averagings, its own included, and gradients). "
               "Under DSGD-AAU nothing is written while a worker\ncomputes: old in seconds, never stale. Transient "
               "stragglers as above.\n\n");
    table_print(t, &s->out);
}

#endif
