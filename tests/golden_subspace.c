/* SPDX-License-Identifier: MIT
 * golden_subspace.c: replays golden vectors of AdaCons (docs: the format field of a file says what is in it) through
 * the public API: over a simulated network with one object a worker, and by subspace_combine in one address space; as
 * the published code assigns the slots (forward) and as the algorithm says (inverse, scale off); in tensors of f64 and
 * of f32.
 *
 * The library deviates by documented rule where the published code divides by a zero sum, or lets a gradient that is
 * not finite into its state. There, and there only, the values are compared with subspace_model.h instead, the
 * library's count of such groups is checked, and the names of the guards are printed. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#include "subspace_model.h"
#include "subspace_team.h"

#define GOLDEN_NAME "subspace"
#define GOLDEN_USAGE                                                                                                   \
    "Replays golden vectors (JSON) of AdaCons through subspace.h, and says which documented rule took over where "     \
    "the\n"                                                                                                            \
    "published code yields NaN. Files of training runs (linreg-reference-1) are no vectors: they are skipped.\n"
#define GOLDEN_FIELDS                                                                                                  \
    uint32_t workers;                                                                                                  \
    size_t tensors, elements;                                                                                          \
    size_t *count;                                                                                                     \
    double momentum, epsilon;                                                                                          \
    int zero_sum, excluded, rejected; /* guards that were seen */
#include "golden.h"

#include <float.h>

#define MOST_WORKERS 64u
#define MOST_ELEMENTS 10000000u
#define MOST_TENSORS 1000u

#define NEAR_OWN 1e-12 /* own64: everything is f64 in the library, too */
#define NEAR_REF 5e-6  /* what the published code computes in f32 */

/* |got - want| <= allowed; NaN and infinity must be the same. */
static int near(golden *g, const char *how, const char *what, long step, long index, double got, double want,
                double allowed) {
    double error = fabs(got - want);
    g->checks++;
    if (got == want) return 1;
    if (isfinite(error)) {
        error = allowed > 0 ? error / allowed : (double)INFINITY;
        if (error > g->worst) g->worst = error;
        if (error <= 1) return 1;
    } else {
        g->worst = (double)INFINITY;
    }
    return bad(g, "%s: %s, step %ld, number %ld: %.17g instead of %.17g", how, what, step, index, got, want);
}

static int near_all(golden *g, const char *how, const char *what, long step, const double *got, const double *want,
                    size_t n, double rel, double abs) {
    size_t i;
    for (i = 0; i < n; i++)
        if (!near(g, how, what, step, (long)i, got[i], want[i], rel * fabs(want[i]) + abs)) return 0;
    return 1;
}

static double most(const double *x, size_t n) {
    double m = 0;
    size_t i;
    for (i = 0; i < n; i++)
        if (fabs(x[i]) > m) m = fabs(x[i]);
    return m;
}

static int all_finite(const double *x, size_t n) {
    size_t i;
    for (i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

/* The distance of f32 numbers of this size. */
static double f32_ulp(double v) {
    int e;
    if (!(v > 0)) return 0;
    (void)frexp(v, &e);
    return ldexp(1, (e < -125 ? -125 : e) - 24);
}

/* ---- reading ---- */

static int integer(golden *g, const cJSON *o, const char *key, double lo, double hi, size_t *out) {
    return whole(g, item(o, key), key, lo, hi, out);
}

/* [worker][n], f32 each, written as short as that allows */
static int f32_rows(golden *g, const cJSON *j, size_t n, const char *what, double *out) {
    size_t i;
    if (!rows(g, j, g->workers, n, what, out)) return 0;
    for (i = 0; i < n * g->workers; i++) out[i] = (double)(float)out[i];
    return 1;
}

static double *doubles(size_t n) {
    return (double *)room(n, sizeof(double));
}

/* ---- one way of carrying a sequence out ---- */

typedef struct way {
    const char *name;
    int combine;
    weft_dtype dtype;
    subspace_assignment assignment;
    subspace_guard guard;
} way;

typedef struct play {
    golden *g;
    const way *w;
    team t;
    pile p;
    weft_dtype dtype[MOST_TENSORS];
    int open;
} play;

static int play_open(play *p, golden *g, const way *w, const subspace_desc *s) {
    team_desc d = team_default(1, g->workers);
    size_t i;
    memset(p, 0, sizeof *p);
    p->g = g;
    p->w = w;
    for (i = 0; i < g->tensors; i++) p->dtype[i] = w->dtype;
    if (w->combine) {
        if (pile_open(&p->p, s, g->workers, g->tensors, g->count, p->dtype) != WEFT_OK)
            return bad(g, "%s: init is refused", w->name);
    } else {
        d.s = *s;
        d.tensors = g->tensors;
        d.count = g->count;
        d.dtype = p->dtype;
        if (!team_open(&p->t, &d)) return bad(g, "%s: %s", w->name, p->t.why);
    }
    p->open = 1;
    return 1;
}

static void play_close(play *p) {
    if (p->w->combine) {
        if (p->p.memory && !pile_close(&p->p)) bad(p->g, "%s: somebody wrote where nobody may", p->w->name);
    } else if (p->t.worker && !team_close(&p->t)) {
        bad(p->g, "%s: %s", p->w->name, p->t.why);
    }
}

static uint32_t play_objects(const play *p) {
    return p->w->combine ? 1 : p->g->workers;
}

static subspace *play_object(play *p, uint32_t i) {
    return p->w->combine ? p->p.a : p->t.worker[i].a;
}

static const weft_tensors *play_input(play *p, uint32_t i) {
    return p->w->combine ? &p->p.grads[i] : &p->t.worker[i].grads;
}

static const weft_tensors *play_output(play *p, uint32_t i) {
    return p->w->combine ? &p->p.out : &p->t.worker[i].grads;
}

/* The gradients go in; the status that all end with. */
static weft_status play_step(play *p, const double *in) {
    weft_status s;
    uint32_t i;
    for (i = 0; i < p->g->workers; i++) team_unflat(play_input(p, i), in + i * p->g->elements);
    if (p->w->combine) return pile_combine(&p->p, NULL);
    TEAM_ALL(&p->t, w, subspace_submit(w->a, 0, w->grads.count));
    s = p->t.worker[0].status;
    for (i = 1; i < p->g->workers; i++)
        if (p->t.worker[i].status != s) bad(p->g, "%s: not all workers say the same", p->w->name);
    if (p->t.why[0]) bad(p->g, "%s: %s", p->w->name, p->t.why);
    return s;
}

/* ---- AdaCons ---- */

typedef struct expected {
    double *alpha, *state, *weight, *coef, *out;
} expected;

typedef struct step {
    double *g, *dot, *square;
    expected ref, own, inverse;
} step;

static void expected_open(expected *e, const golden *g) {
    e->alpha = doubles(g->workers);
    e->state = doubles(g->workers);
    e->weight = doubles(g->workers);
    e->coef = doubles(g->workers);
    e->out = doubles(g->elements);
}

static void expected_close(expected *e) {
    free(e->alpha);
    free(e->state);
    free(e->weight);
    free(e->coef);
    free(e->out);
}

static int expected_read(golden *g, const cJSON *o, int whole, expected *e) {
    return (!whole || (numbers(g, item(o, "alpha"), g->workers, "alpha", e->alpha) &&
                       numbers(g, item(o, "state"), g->workers, "state", e->state))) &&
           numbers(g, item(o, "weight"), g->workers, "weight", e->weight) &&
           numbers(g, item(o, "coef"), g->workers, "coef", e->coef) &&
           numbers(g, item(o, "out"), g->elements, "out", e->out);
}

static int step_read(golden *g, const cJSON *o, step *s) {
    const cJSON *ref = item(o, "ref");
    const size_t n = g->workers * g->elements;
    if (!known(g, o, "a step",
               "g g_first_backward g_second_backward buckets ref own64 own64_inverse perm_is_involution ref_finite "
               "maxrel_ref_vs_own64") ||
        !known(g, ref, "ref", "dot normsq alpha perm state weight coef out") ||
        !known(g, item(o, "own64"), "own64", "alpha state weight coef out") ||
        !known(g, item(o, "own64_inverse"), "own64_inverse", "weight coef out"))
        return 0;
    if (!f32_rows(g, item(o, "g"), g->elements, "g", s->g) ||
        !numbers(g, item(ref, "dot"), g->workers, "dot", s->dot) ||
        !numbers(g, item(ref, "normsq"), g->workers, "normsq", s->square) || !expected_read(g, ref, 1, &s->ref) ||
        !expected_read(g, item(o, "own64"), 1, &s->own) || !expected_read(g, item(o, "own64_inverse"), 0, &s->inverse))
        return 0;
    memcpy(s->inverse.alpha, s->own.alpha, g->workers * sizeof(double));
    memcpy(s->inverse.state, s->own.state, g->workers * sizeof(double));
    if (item(o, "g_first_backward")) { /* accumulated locally, in f32 as a trainer would */
        double *first = doubles(n), *second = doubles(n);
        size_t i;
        if (f32_rows(g, item(o, "g_first_backward"), g->elements, "g_first_backward", first) &&
            f32_rows(g, item(o, "g_second_backward"), g->elements, "g_second_backward", second))
            for (i = 0; i < n; i++) {
                double sum = (double)((float)first[i] + (float)second[i]);
                if (sum != s->g[i]) {
                    bad(g, "g is not the sum of both backward passes");
                    break;
                }
                s->g[i] = sum;
            }
        free(first);
        free(second);
    }
    return !g->misses;
}

/* One object's numbers of the last round against those wanted. */
static int compare_numbers(golden *g, const way *w, subspace *a, long k, const expected *e, const step *s,
                           const model *m, int by_model) {
    double slots[MOST_WORKERS], dot[MOST_WORKERS];
    subspace_worker_t n[MOST_WORKERS];
    uint32_t i, have = subspace_slots(a, 0, slots, MOST_WORKERS);
    if (have != m->slot_count[0]) return bad(g, "%s: step %ld: %u slots instead of %u", w->name, k, have, g->workers);
    if (!near_all(g, w->name, "state", k, slots, by_model ? m->slots : e->state, have, NEAR_OWN, 0)) return 0;
    for (i = 0; i < g->workers; i++) {
        weft_status st = subspace_worker(a, i, 0, &n[i]);
        if (st != (m->excluded[i] ? WEFT_ERR_ARGUMENT : WEFT_OK))
            return bad(g, "%s: step %ld: subspace_worker of %u: %s", w->name, k, i, weft_strerror(st));
        dot[i] = n[i].dot;
        if (m->excluded[i]) continue;
        if (!near(g, w->name, "alpha", k, i, n[i].alpha, by_model ? m->alpha[i] : e->alpha[i],
                  NEAR_OWN * fabs(by_model ? m->alpha[i] : e->alpha[i])) ||
            !near(g, w->name, "norm", k, i, n[i].norm, m->norm[i], NEAR_OWN * m->norm[i]) ||
            !near(g, w->name, "weight", k, i, n[i].weight, by_model ? m->weight[i] : e->weight[i],
                  NEAR_OWN * fabs(m->weight[i])) ||
            !near(g, w->name, "coefficient", k, i, n[i].coefficient, by_model ? m->coefficient[i] : e->coef[i],
                  NEAR_OWN * fabs(m->coefficient[i])))
            return 0;
    }
    if (by_model) return 1;
    /* what the published code has seen, in f32 */
    if (all_finite(s->dot, g->workers) && all_finite(s->square, g->workers) && most(s->square, g->workers) > 1e-30) {
        double size = sqrt(most(s->square, g->workers)) * sqrt(most(s->square, g->workers)) * g->workers;
        for (i = 0; i < g->workers; i++)
            if (!near(g, w->name, "ref.dot", k, i, dot[i], s->dot[i], NEAR_REF * size) ||
                !near(g, w->name, "ref.normsq", k, i, n[i].norm * n[i].norm, s->square[i], NEAR_REF * s->square[i]))
                return 0;
    }
    return 1;
}

static int compare_out(golden *g, const way *w, long k, const weft_tensors *got, const double *want, const char *what,
                       double allowed) {
    double *out = doubles(g->elements);
    int ok;
    team_flat(got, out);
    ok = near_all(g, w->name, what, k, out, want, g->elements, 0, allowed);
    free(out);
    return ok;
}

/* Has the sum of the weights nothing to divide by, so that the documented rule takes over? */
static int is_zero_sum(const model *m) {
    return m->zero_sums != 0;
}

static int adacons_step(golden *g, play *p, model *m, const step *s, long k) {
    const way *w = p->w;
    const expected *e = w->assignment == SUBSPACE_FORWARD ? &s->own : &s->inverse;
    subspace_stats_t before, after;
    uint32_t i, ill = 0;
    double f32, largest;
    int by_model;
    weft_status st;
    subspace_stats(play_object(p, 0), &before);
    for (i = 0; i < g->workers; i++) ill += !all_finite(s->g + i * g->elements, g->elements);
    st = play_step(p, s->g);
    subspace_stats(play_object(p, 0), &after);
    if (ill && w->guard == SUBSPACE_GUARD_REJECT) {
        double *flat = doubles(g->elements);
        if (st != WEFT_ERR_NONFINITE) bad(g, "%s: step %ld: %s", w->name, k, weft_strerror(st));
        if (after.rounds != before.rounds || after.rounds_abandoned != before.rounds_abandoned + 1)
            bad(g, "%s: step %ld: a rejected round is counted wrongly", w->name, k);
        for (i = 0; i < g->workers; i++) { /* untouched, and so is the state: the next steps show it */
            size_t d;
            team_flat(play_input(p, i), flat);
            for (d = 0; d < g->elements; d++)
                if (flat[d] != s->g[i * g->elements + d] && !(isnan(flat[d]) && isnan(s->g[i * g->elements + d])))
                    bad(g, "%s: step %ld: a rejected round has changed a gradient", w->name, k);
        }
        g->checks += g->elements;
        g->rejected = 1;
        free(flat);
        return !g->misses;
    }
    if (st != WEFT_OK) return bad(g, "%s: step %ld: %s", w->name, k, weft_strerror(st));
    memcpy(m->g, s->g, g->workers * g->elements * sizeof(double));
    model_round(m);
    /* The documented rules: what the file holds is NaN, or (a sum that is not positive) not what is wanted. */
    by_model = ill || is_zero_sum(m) || !all_finite(e->weight, g->workers);
    if (by_model && !ill && !is_zero_sum(m) && all_finite(e->state, g->workers))
        return bad(g, "%s: step %ld: the file is not finite, and no rule says why", w->name, k);
    if (after.zero_sums - before.zero_sums != m->zero_sums)
        return bad(g, "%s: step %ld: %llu zero sums are counted", w->name, k,
                   (unsigned long long)(after.zero_sums - before.zero_sums));
    if (after.nonfinite_gradients - before.nonfinite_gradients != ill || after.participants != g->workers - ill ||
        after.rounds != before.rounds + 1)
        return bad(g, "%s: step %ld: gradients that are not finite are counted wrongly", w->name, k);
    g->zero_sum |= is_zero_sum(m);
    g->excluded |= ill != 0;
    for (i = 0; i < play_objects(p); i++)
        if (!compare_numbers(g, w, play_object(p, i), k, e, s, m, by_model)) return 0;
    if (!by_model) /* the model itself is right */
        if (!near_all(g, w->name, "alpha of the model", k, m->alpha, e->alpha, g->workers, NEAR_OWN, 0) ||
            !near_all(g, w->name, "weight of the model", k, m->weight, e->weight, g->workers, NEAR_OWN, 0))
            return 0;
    largest = most(by_model ? m->out : e->out, g->elements);
    f32 = w->dtype == WEFT_F32 ? f32_ulp(largest) : 0;
    for (i = 0; i < play_objects(p); i++) {
        if (!compare_out(g, w, k, play_output(p, i), by_model ? m->out : e->out, "out", NEAR_OWN * largest + f32))
            return 0;
        /* what cancels is to be measured by what it is made of */
        if (!by_model && w->assignment == SUBSPACE_FORWARD && all_finite(s->ref.out, g->elements) &&
            !compare_out(g, w, k, play_output(p, i), s->ref.out, "ref.out", NEAR_REF * most(m->size, g->elements)))
            return 0;
    }
    return 1;
}

static int read_shapes(golden *g) {
    const cJSON *shapes = item(g->doc, "shapes"), *s, *e;
    size_t i = 0, total = 0;
    g->tensors = cJSON_IsArray(shapes) ? (size_t)cJSON_GetArraySize(shapes) : 0;
    if (!g->tensors || g->tensors > MOST_TENSORS) return bad(g, "shapes: 1 to %u are expected", MOST_TENSORS);
    g->count = (size_t *)calloc(g->tensors, sizeof *g->count);
    cJSON_ArrayForEach(s, shapes) {
        double product = 1;
        if (!cJSON_IsArray(s)) return bad(g, "a shape is not an array");
        cJSON_ArrayForEach(e, s) product *= cJSON_IsNumber(e) ? e->valuedouble : -1;
        if (!(product >= 0) || product > MOST_ELEMENTS || product != floor(product)) return bad(g, "a bad shape");
        g->count[i++] = (size_t)product;
        total += (size_t)product;
    }
    return total == g->elements ? 1 : bad(g, "shapes and d differ");
}

static void adacons(golden *g) {
    static const way ways[] = {
        {"forward, network, f64", 0, WEFT_F64, SUBSPACE_FORWARD, SUBSPACE_GUARD_EXCLUDE},
        {"forward, network, f32", 0, WEFT_F32, SUBSPACE_FORWARD, SUBSPACE_GUARD_EXCLUDE},
        {"forward, combine, f64", 1, WEFT_F64, SUBSPACE_FORWARD, SUBSPACE_GUARD_EXCLUDE},
        {"forward, combine, f32", 1, WEFT_F32, SUBSPACE_FORWARD, SUBSPACE_GUARD_EXCLUDE},
        {"inverse, network, f64", 0, WEFT_F64, SUBSPACE_INVERSE, SUBSPACE_GUARD_EXCLUDE},
        {"inverse, network, f32", 0, WEFT_F32, SUBSPACE_INVERSE, SUBSPACE_GUARD_EXCLUDE},
        {"inverse, combine, f64", 1, WEFT_F64, SUBSPACE_INVERSE, SUBSPACE_GUARD_EXCLUDE},
        {"inverse, combine, f32", 1, WEFT_F32, SUBSPACE_INVERSE, SUBSPACE_GUARD_EXCLUDE},
        {"inverse, network, f64, reject", 0, WEFT_F64, SUBSPACE_INVERSE, SUBSPACE_GUARD_REJECT},
        {"forward, combine, f32, reject", 1, WEFT_F32, SUBSPACE_FORWARD, SUBSPACE_GUARD_REJECT},
    };
    const cJSON *steps = item(g->doc, "steps"), *o;
    size_t v = 0, i;
    step s;
    if (!known(g, g->doc, "the file", "format name origin note N momentum eps d shapes steps") ||
        !integer(g, g->doc, "N", 1, MOST_WORKERS, &v) || !integer(g, g->doc, "d", 0, MOST_ELEMENTS, &g->elements) ||
        !field(g, g->doc, "momentum", 0, 0.999999, &g->momentum) || !field(g, g->doc, "eps", 0, 1, &g->epsilon))
        return;
    g->workers = (uint32_t)v;
    if (!read_shapes(g)) return;
    if (!cJSON_IsArray(steps)) {
        bad(g, "no steps");
        return;
    }
    s.g = doubles(g->workers * g->elements);
    s.dot = doubles(g->workers);
    s.square = doubles(g->workers);
    expected_open(&s.ref, g);
    expected_open(&s.own, g);
    expected_open(&s.inverse, g);
    for (i = 0; i < sizeof ways / sizeof *ways && !g->misses; i++) {
        const way *w = &ways[i];
        play p;
        model m;
        subspace_desc d;
        long k = 0;
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        d.momentum = g->momentum;
        d.epsilon = g->epsilon == 0 ? WEFT_ZERO : g->epsilon;
        d.assignment = w->assignment;
        d.scale = w->assignment == SUBSPACE_FORWARD ? SUBSPACE_SCALE_DEFAULT : SUBSPACE_SCALE_OFF;
        d.guard = w->guard;
        model_open(&m, g->workers, g->elements, 1, NULL);
        m.assignment = w->assignment;
        m.scale = SUBSPACE_SCALE_OFF;
        m.momentum = g->momentum;
        m.epsilon = g->epsilon;
        if (play_open(&p, g, w, &d)) {
            subspace_desc now;
            subspace_effective(play_object(&p, 0), &now);
            if (now.scale != SUBSPACE_SCALE_OFF) bad(g, "%s: the scale is not off", w->name);
            cJSON_ArrayForEach(o, steps) {
                if (!step_read(g, o, &s) || !adacons_step(g, &p, &m, &s, k)) break;
                k++;
            }
        }
        play_close(&p);
        model_close(&m);
    }
    expected_close(&s.ref);
    expected_close(&s.own);
    expected_close(&s.inverse);
    free(s.g);
    free(s.dot);
    free(s.square);
}

/* ---- other rules that this header has ---- */

/* One case by one rule: the mean, or AdaCons with the smallest weight taken off if it is below zero. */
static int other_rule(golden *g, const way *w, const subspace_desc *d, const double *in, const double *want,
                      const char *what) {
    play p;
    size_t i, k;
    double largest = most(want, g->elements), allowed = NEAR_OWN * largest, terms = 0;
    if (play_open(&p, g, w, d)) {
        weft_status st = play_step(&p, in);
        for (i = 0; i < g->elements; i++) {
            double sum = 0;
            for (k = 0; k < g->workers; k++) sum += fabs(in[k * g->elements + i]);
            if (sum > terms) terms = sum;
        }
        if (w->dtype == WEFT_F32) /* the mean is formed in the type of its tensors */
            allowed +=
                d->rule == SUBSPACE_MEAN ? (g->workers + 1) * ldexp(1, -24) * terms / g->workers : f32_ulp(largest);
        if (st != WEFT_OK) bad(g, "%s: %s: %s", what, w->name, weft_strerror(st));
        for (i = 0; i < play_objects(&p) && !g->misses; i++)
            compare_out(g, w, 0, play_output(&p, (uint32_t)i), want, what, allowed);
    }
    play_close(&p);
    return !g->misses;
}

static void comparison(golden *g) {
    static const way ways[] = {{"network, f64", 0, WEFT_F64, SUBSPACE_INVERSE, SUBSPACE_GUARD_EXCLUDE},
                               {"network, f32", 0, WEFT_F32, SUBSPACE_INVERSE, SUBSPACE_GUARD_EXCLUDE},
                               {"combine, f64", 1, WEFT_F64, SUBSPACE_INVERSE, SUBSPACE_GUARD_EXCLUDE},
                               {"combine, f32", 1, WEFT_F32, SUBSPACE_INVERSE, SUBSPACE_GUARD_EXCLUDE}};
    const cJSON *cases = item(g->doc, "cases"), *o, *e;
    if (!known(g, g->doc, "the file", "format origin cases")) return;
    cJSON_ArrayForEach(o, cases) {
        double *in = NULL, *mean = NULL, *shift = NULL;
        size_t v = 0, i, total = 0;
        double n;
        /* unit mean and Adasum are no rules of this header */
        if (!known(g, o, "a case",
                   "name N layers g mean unit_mean adasum_whole adasum_layerwise adacons_shift_m0 note") ||
            !integer(g, o, "N", 1, MOST_WORKERS, &v))
            return;
        g->workers = (uint32_t)v;
        g->tensors = cJSON_IsArray(item(o, "layers")) ? (size_t)cJSON_GetArraySize(item(o, "layers")) : 0;
        if (!g->tensors || g->tensors > MOST_TENSORS) {
            bad(g, "no layers");
            return;
        }
        free(g->count);
        g->count = (size_t *)calloc(g->tensors, sizeof *g->count);
        i = 0;
        cJSON_ArrayForEach(e, item(o, "layers")) {
            if (!number(g, e, "layers", &n) || !(n >= 0 && n < MOST_ELEMENTS)) {
                bad(g, "a bad layer");
                return;
            }
            g->count[i] = (size_t)n;
            total += g->count[i++];
        }
        g->elements = total;
        in = doubles(g->workers * total);
        mean = doubles(total);
        shift = doubles(total);
        if (f32_rows(g, item(o, "g"), total, "g", in))
            for (i = 0; i < sizeof ways / sizeof *ways && !g->misses; i++) {
                subspace_desc d;
                memset(&d, 0, sizeof d);
                d.struct_size = sizeof d;
                d.rule = SUBSPACE_MEAN;
                if (item(o, "mean") && numbers(g, item(o, "mean"), total, "mean", mean))
                    other_rule(g, &ways[i], &d, in, mean, "mean");
                d.rule = SUBSPACE_NORMALISED;
                d.assignment = SUBSPACE_FORWARD; /* this file's, too */
                d.negative = SUBSPACE_NEGATIVE_SHIFT;
                if (item(o, "adacons_shift_m0") &&
                    numbers(g, item(o, "adacons_shift_m0"), total, "adacons_shift_m0", shift))
                    other_rule(g, &ways[i], &d, in, shift, "adacons_shift_m0");
            }
        free(in);
        free(mean);
        free(shift);
        if (g->misses) return;
    }
}

/* ---- files ---- */

/* The index of a folder: each of its cases is there, beside it, and says the same about itself. */
static void index_of(golden *g) {
    const cJSON *cases = item(g->doc, "cases"), *o;
    const char *slash = strrchr(g->path, '/');
    if (!known(g, g->doc, "the file", "format worst_rel_ref_vs_own64 cases")) return;
    cJSON_ArrayForEach(o, cases) {
        const cJSON *file = item(o, "file");
        char path[4096];
        cJSON *doc;
        double a, b;
        size_t i;
        static const char *const same[] = {"N", "momentum", "d"};
        if (!cJSON_IsString(file) || strchr(file->valuestring, '/') ||
            snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash - g->path + 1) : 0, g->path, file->valuestring) >=
                (int)sizeof path) {
            bad(g, "a case without a file");
            return;
        }
        if (!(doc = parse(g, path))) return;
        for (i = 0; i < 3; i++)
            if (field(g, o, same[i], 0, 1e9, &a) && field(g, doc, same[i], 0, 1e9, &b))
                near(g, file->valuestring, same[i], 0, 0, b, a, 0);
        if (field(g, o, "steps", 0, 1e9, &a))
            near(g, file->valuestring, "steps", 0, 0, (double)cJSON_GetArraySize(item(doc, "steps")), a, 0);
        cJSON_Delete(doc);
    }
}

static void replay_file(golden *g) {
    const cJSON *format;
    const char *f;
    format = item(g->doc, "format");
    f = cJSON_IsString(format) ? format->valuestring : "";
    if (!strcmp(f, "adacons-golden-1"))
        adacons(g);
    else if (!strcmp(f, "aggregators-golden-1"))
        comparison(g);
    else if (!strcmp(f, "index-1"))
        index_of(g);
    else if (!strcmp(f, "linreg-reference-1"))
        g->skipped = 1; /* training runs, not vectors */
    else
        bad(g, "unknown format \"%.40s\"", f);
}

static void forget_file(golden *g) {
    free(g->count);
}

static void tell_file(const golden *g) {
    printf("%s%s%s", g->zero_sum ? "; zero sum: equal weights" : "", g->excluded ? "; not finite: left out" : "",
           g->rejected ? ", or rejected" : "");
}

int main(int argc, char **argv) {
    return golden_main(argc, argv, replay_file, forget_file, tell_file);
}
