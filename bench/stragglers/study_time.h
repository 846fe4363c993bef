/* SPDX-License-Identifier: MIT
 * study_time.h: how long until the target, for every rule, number of workers and step size. */
#ifndef STRAGGLERS_STUDY_TIME_H
#define STRAGGLERS_STUDY_TIME_H

#include "published.h"
#include "study.h"

enum { TIME_COUNTS = 5, TIME_RATES = 3, CURVE_AT = 2 };
static const uint32_t time_workers[TIME_COUNTS] = {4, 16, 64, 128, 256};
static const double time_rate[TIME_RATES] = {0.2, 0.4, 0.8};

/* What one rule came to with so many workers and a step size, over seeds. */
typedef struct time_cell {
    size_t seeds;
    double t_mean[MOST_SEEDS], t_all[MOST_SEEDS], gradients[MOST_SEEDS];
    double rate, idle, sent, averagings, neighbours, epochs; /* means */
    double control;                                          /* bytes a gradient */
} time_cell;

typedef struct time_result {
    size_t counts;
    time_cell cell[TIME_COUNTS][TIME_RATES][METHODS];
    outcome curve[METHODS]; /* of the first seed, at CURVE_AT, first step size */
    int curves;
} time_result;

/* How many seeds. What the protocol costs to simulate grows with the third power of the workers: with the most, one
 * must do, and one step size. */
static inline size_t time_seeds(const study *s, uint32_t workers, int rate, method m) {
    const size_t most = workers > 128 ? 1 : m == AAU_PROTOCOL && workers > 64 ? 2 : (size_t)s->seeds;
    if (m == AAU_PROTOCOL && workers > 128 && rate > 0) return 0;
    return most < s->seeds ? most : (size_t)s->seeds;
}

static inline void time_run(study *s, time_result *r, size_t n, uint64_t seed) {
    const weft_pace pace = pace_of(0.1, 10.0);
    const logistic_desc d = logistic_noniid(time_workers[n], seed);
    static outcome o;
    weft_graph graph;
    void *memory = graph_open(&graph, time_workers[n], seed);
    task k;
    logistic_open(&k, &d);
    for (int e = 0; e < TIME_RATES; e++)
        for (int m = 0; m < METHODS; m++) {
            time_cell *c = &r->cell[n][e][m];
            const size_t of = time_seeds(s, time_workers[n], e, (method)m);
            const trial t = trial_of(&k, &graph, &pace, seed, time_rate[e]);
            if (c->seeds == of) continue;
            method_run((method)m, &t, &o);
            study_row(s, "time", method_key[m], &t, &o);
            c->t_mean[c->seeds] = o.t_mean;
            c->t_all[c->seeds] = o.t_all;
            c->gradients[c->seeds++] = isfinite(o.t_mean) ? o.gradients : (double)NAN;
            c->rate += o.rate / (double)of;
            c->idle += o.idle / (double)of;
            c->sent += o.sent / (double)of;
            c->averagings += o.averagings / (double)of;
            c->neighbours += o.averaged / (double)of;
            c->epochs += o.epochs / o.end / (double)of;
            c->control += o.steps ? (double)o.control_bytes / (double)o.steps / (double)of : 0.0;
            if (n == CURVE_AT && e == 0 && seed == s->seed) {
                r->curve[m] = o;
                r->curves = 1;
            }
        }
    logistic_close(&k);
    free(memory);
}

/* Of the seeds that both have: how many times faster than synchronous DSGD. */
static inline spread time_speedup(const time_result *r, size_t n, int e, int m) {
    const time_cell *c = &r->cell[n][e][m], *base = &r->cell[n][e][DSGD];
    double v[MOST_SEEDS];
    for (size_t i = 0; i < c->seeds; i++) v[i] = base->t_mean[i] / c->t_mean[i];
    return spread_of(v, c->seeds);
}

/* The step size with the shortest mean t_mean among those that every seed has reached the target with. */
static inline int time_best(const time_result *r, size_t n, int m) {
    int best = 0;
    double least = HUGE_VAL;
    for (int e = 0; e < TIME_RATES; e++) {
        const spread v = spread_of(r->cell[n][e][m].t_mean, r->cell[n][e][m].seeds);
        if (v.reached < v.of || !(v.mean < least)) continue;
        least = v.mean;
        best = e;
    }
    return best;
}

static inline void time_table(study *s, const time_result *r) {
    table *t = table_new(">workers|rule|>t(mean)|>t(all)|>speed-up over DSGD|>theirs: t(mean)|>t(all)|>speed-up|"
                         ">gradients a worker|>a worker a second|>idle|>models sent a gradient|>averagings|>neighbours|"
                         ">epochs a second|>control bytes a gradient");
    for (size_t n = 0; n < r->counts; n++)
        for (int m = 0; m < METHODS; m++) {
            const time_cell *c = &r->cell[n][0][m];
            const double theirs = published_for(published_mean[m], time_workers[n]);
            table_row(t);
            table_cell(t, "%u", time_workers[n]);
            table_cell(t, "%s", method_name[m]);
            cell_spread(t, spread_of(c->t_mean, c->seeds), 1);
            cell_spread(t, spread_of(c->t_all, c->seeds), 1);
            cell_spread(t, time_speedup(r, n, 0, m), 2);
            cell_number(t, theirs, 1);
            cell_number(t, published_for(published_all[m], time_workers[n]), 1);
            cell_number(t, published_for(published_mean[DSGD], time_workers[n]) / theirs, 2);
            cell_spread(t, spread_of(c->gradients, c->seeds), 1);
            table_cell(t, "%.3f", c->rate);
            table_cell(t, "%.2f", fabs(c->idle));
            table_cell(t, "%.2f", c->sent);
            table_cell(t, "%.0f", c->averagings);
            table_cell(t, "%.2f", c->neighbours);
            if (m == AAU_IDEAL || m == AAU_PROTOCOL || m == DSGD)
                table_cell(t, "%.3f", c->epochs);
            else
                table_cell(t, "-");
            if (m == AAU_PROTOCOL)
                table_cell(t, "%.0f", c->control);
            else
                table_cell(t, "-");
        }
    report_say(
        &s->out,
        "## Time to the target\n\n"
        "Non-iid logistic regression (%d parameters, %d samples a worker, features and labels shifted for each "
        "worker,\n"
        "mini-batches of 16), Erdos-Renyi graphs (p = 0.25; 4 workers: 0.6), a gradient takes U(0.9, 1.1) seconds, one "
        "in ten\n"
        "ten times as long; an averaging 0.05 s. **Step size %.1f for everybody.** Seconds of virtual time until 2 %% "
        "of the\n"
        "initial gap is left: t(mean) of the mean model, t(all) of the models' values on average. Mean and standard "
        "deviation\n"
        "over seeds: %llu (256 workers: one; protocol with 128: two). Never: not within 4000 s, for t(all) not within\n"
        "100 s + 2.5 t(mean). *ideal*: the paper's rule, run by one eye that sees everything. *protocol*: the objects "
        "of\n"
        "dsgd_aau.h over a simulated network: latency 5 ms, a model 25 ms, grace 30 ms, coalescing 20 ms, fan 8.\n"
        "*theirs*: an independent simulation, with other random numbers.\n\n",
        LOGISTIC_DIM, LOGISTIC_SAMPLES, time_rate[0], (unsigned long long)s->seeds);
    table_print(t, &s->out);
}

static inline void time_best_table(study *s, const time_result *r) {
    table *t = table_new(">workers|rule|>step size|>t(mean)|>t(all)|>speed-up over DSGD|>theirs: t(mean)|>t(all)|"
                         ">speed-up");
    for (size_t n = 0; n < r->counts; n++)
        for (int m = 0; m < METHODS; m++) {
            const int e = time_best(r, n, m), base = time_best(r, n, DSGD);
            const time_cell *c = &r->cell[n][e][m], *d = &r->cell[n][base][DSGD];
            const double theirs = published_for(published_best[m], time_workers[n]);
            double v[MOST_SEEDS];
            if (!r->cell[n][TIME_RATES - 1][m].seeds) continue; /* there was no choice */
            for (size_t i = 0; i < c->seeds; i++) v[i] = d->t_mean[i] / c->t_mean[i];
            table_row(t);
            table_cell(t, "%u", time_workers[n]);
            table_cell(t, "%s", method_name[m]);
            table_cell(t, "%.1f", time_rate[e]);
            cell_spread(t, spread_of(c->t_mean, c->seeds), 1);
            cell_spread(t, spread_of(c->t_all, c->seeds), 1);
            cell_spread(t, spread_of(v, c->seeds), 2);
            cell_number(t, theirs, 1);
            cell_number(t, published_for(published_best_all[m], time_workers[n]), 1);
            cell_number(t, published_for(published_best[DSGD], time_workers[n]) / theirs, 2);
        }
    report_say(&s->out,
               "### The best of three step sizes\n\nThe same with %.1f, %.1f or %.1f, whichever brings a rule's mean "
               "model to the target first.\n\n",
               time_rate[0], time_rate[1], time_rate[2]);
    table_print(t, &s->out);
}

static inline double time_mean(const time_result *r, size_t n, int m) {
    const spread v = spread_of(r->cell[n][0][m].t_mean, r->cell[n][0][m].seeds);
    return v.reached == v.of ? v.mean : HUGE_VAL;
}

/* Do two rules stand in the same order here as there, where they are 5 % apart there? Tells of those that do not. */
static inline int time_order(const time_result *r, size_t n, char *which, size_t capacity) {
    int same = 1;
    which[0] = 0;
    for (int a = 0; a < METHODS; a++)
        for (int b = 0; b < METHODS; b++) {
            const double p = published_for(published_mean[a], time_workers[n]);
            const double q = published_for(published_mean[b], time_workers[n]);
            const size_t used = strlen(which);
            if (!(p * 1.05 < q) || time_mean(r, n, a) < time_mean(r, n, b)) continue;
            same = 0;
            snprintf(which + used, capacity - used, "%s%s not before %s", used ? "; " : "", method_name[a],
                     method_name[b]);
        }
    return same;
}

/* How many times as long as AD-PSGD, of the seeds in which both arrive; else who does not. */
static inline void cell_longer(table *t, const double *us, const double *them, size_t seeds) {
    const spread a = spread_of(us, seeds), b = spread_of(them, seeds);
    double sum = 0.0;
    for (size_t k = 0; k < seeds; k++) sum += us[k] / them[k] / (double)seeds;
    if (!seeds)
        table_cell(t, "-");
    else if (a.reached == seeds && b.reached == seeds)
        table_cell(t, "%.2f", sum);
    else
        table_cell(t, "%s",
                   a.reached == b.reached  ? "neither always"
                   : a.reached < b.reached ? "ours not always"
                                           : "AD-PSGD not always");
}

static inline void time_checks(study *s, const time_result *r) {
    table *t = table_new(">workers|what|>goal|>here|>theirs|met");
    for (size_t n = 0; n < r->counts; n++) {
        const uint32_t w = time_workers[n];
        char which[TABLE_CELL];
        if (isfinite(published_for(published_mean[DSGD], w))) {
            const int same = time_order(r, n, which, sizeof which);
            table_row(t);
            table_cell(t, "%u", w);
            table_cell(t, "rules in the same order%s%s", same ? "" : ": ", which);
            table_cell(t, "-");
            table_cell(t, "-");
            table_cell(t, "-");
            table_cell(t, "%s", judge(s, same));
        }
        if (w < 64) continue;
        const double speedup = time_speedup(r, n, 0, AAU_PROTOCOL).mean;
        double theirs = published_for(published_mean[DSGD], w) / published_for(published_mean[AAU_PROTOCOL], w);
        table_row(t);
        table_cell(t, "%u", w);
        table_cell(t, "protocol faster than DSGD, t(mean)");
        table_cell(t, ">= 3.5");
        table_cell(t, "%.2f", speedup);
        cell_number(t, theirs, 2);
        table_cell(t, "%s", judge(s, speedup >= 3.5));
        /* of the seeds that both have */
        double ratio = 0.0;
        const time_cell *p = &r->cell[n][0][AAU_PROTOCOL], *i = &r->cell[n][0][AAU_IDEAL];
        for (size_t k = 0; k < p->seeds; k++) ratio += p->t_mean[k] / i->t_mean[k] / (double)p->seeds;
        theirs = published_for(published_mean[AAU_PROTOCOL], w) / published_for(published_mean[AAU_IDEAL], w);
        table_row(t);
        table_cell(t, "%u", w);
        table_cell(t, "protocol by ideal, t(mean)");
        table_cell(t, "<= 1.15");
        table_cell(t, "%.3f", ratio);
        cell_number(t, theirs, 3);
        table_cell(t, "%s", judge(s, ratio <= 1.15));
    }
    report_say(&s->out, "### What was to be seen\n\nAt step size %.1f. Order: of rules that are 5 %% apart there.\n\n",
               time_rate[0]);
    table_print(t, &s->out);
    /* where waiting for nobody is faster than waiting for few */
    table *a =
        table_new(">workers|>step size|>ideal by AD-PSGD, t(mean)|>t(all)|>protocol by AD-PSGD, t(mean)|>t(all)");
    for (size_t n = 0; n < r->counts; n++)
        for (int best = 0; best < 2; best++) {
            const int e = best ? time_best(r, n, ADPSGD) : 0;
            const time_cell *d = &r->cell[n][e][ADPSGD];
            table_row(a);
            table_cell(a, "%u", time_workers[n]);
            table_cell(a, "%s", best ? "best of each" : "0.2");
            for (int m = AAU_IDEAL; m <= AAU_PROTOCOL; m++) {
                const time_cell *c = &r->cell[n][best ? time_best(r, n, m) : 0][m];
                const size_t seeds = best && !r->cell[n][TIME_RATES - 1][m].seeds ? 0 : c->seeds;
                cell_longer(a, c->t_mean, d->t_mean, seeds);
                cell_longer(a, c->t_all, d->t_all, seeds);
            }
        }
    report_say(&s->out, "### Against AD-PSGD\n\nIdealised AD-PSGD never waits, and pays nothing for it but the age of "
                        "its gradients: no locks, no\nbipartite graph. How many times as long DSGD-AAU takes: above "
                        "1, AD-PSGD is ahead. Always:\nin every seed.\n\n");
    table_print(a, &s->out);
}

static inline void time_picture(study *s, const time_result *r) {
    static double x[TIME_COUNTS], y[2][METHODS][TIME_COUNTS], level[METHODS][CURVE_POINTS];
    static plot_series series[3][METHODS];
    char heading[64];
    plot_panel panel[3] = {
        {"step size 0.2", "log2 of the workers", "seconds to the target", 0, 100, METHODS, series[0]},
        {"best of three step sizes", "log2 of the workers", "seconds to the target", 0, 100, METHODS, series[1]},
        {heading, "virtual time, s", "log10 of the gap left", -2.5, 0, METHODS, series[2]}};
    snprintf(heading, sizeof heading, "%u workers, step size %.1f", time_workers[CURVE_AT], time_rate[0]);
    for (size_t n = 0; n < r->counts; n++) x[n] = log2(time_workers[n]);
    for (int m = 0; m < METHODS; m++) {
        for (int best = 0; best < 2; best++) {
            size_t n;
            for (n = 0; n < r->counts; n++) { /* up to where it was not tried, or has not arrived */
                const time_cell *c = &r->cell[n][best ? time_best(r, n, m) : 0][m];
                y[best][m][n] = spread_of(c->t_mean, c->seeds).mean;
                if (!isfinite(y[best][m][n]) || (best && !r->cell[n][TIME_RATES - 1][m].seeds)) break;
                if (y[best][m][n] > panel[best].y_upto) panel[best].y_upto = 100.0 * ceil(y[best][m][n] / 100.0);
            }
            series[best][m] = (plot_series){method_short[m], m + 1, n, x, y[best][m]};
        }
        for (size_t i = 0; i < r->curve[m].points; i++) level[m][i] = log10(fmax(1e-9, r->curve[m].share[i]));
        series[2][m] = (plot_series){method_short[m], m + 1, r->curve[m].points, r->curve[m].time, level[m]};
    }
    study_picture(s, "", "Time to the target with transient stragglers (one gradient in ten takes ten times as long)",
                  r->curves ? 3 : 2, panel);
}

static inline void study_time(study *s) {
    static time_result r;
    memset(&r, 0, sizeof r);
    r.counts = s->quick ? 3 : TIME_COUNTS;
    for (size_t n = 0; n < r.counts; n++)
        for (uint64_t i = 0; i < s->seeds; i++) {
            fprintf(stderr, "time: %u workers, seed %llu of %llu\n", time_workers[n], (unsigned long long)i + 1,
                    (unsigned long long)s->seeds);
            time_run(s, &r, n, s->seed + i);
        }
    time_table(s, &r);
    time_best_table(s, &r);
    time_checks(s, &r);
    time_picture(s, &r);
}

#endif
