/* SPDX-License-Identifier: MIT
 * test_dsgd_aau_machine.c: the protocol machine of dsgd_aau.h without a network: all orders of events in small worlds,
 * and drawn ones in larger worlds with crashes, restarts, and links that break and heal; the state in both forms. */
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#include "aau_machine.h"

#include <check.h>

/* ---- all orders ---- */

typedef struct seen {
    uint64_t *key;
    size_t room, n;
} seen;

static int seen_add(seen *s, uint64_t key) {
    size_t i;
    if (key == 0) key = 1;
    if (2 * (s->n + 1) > s->room) {
        seen old = *s;
        s->room = old.room ? 2 * old.room : 1u << 16;
        s->key = (uint64_t *)calloc(s->room, sizeof *s->key);
        s->n = 0;
        for (i = 0; i < old.room; i++)
            if (old.key[i]) seen_add(s, old.key[i]);
        free(old.key);
    }
    for (i = key & (s->room - 1); s->key[i]; i = (i + 1) & (s->room - 1))
        if (s->key[i] == key) return 0;
    s->key[i] = key;
    s->n++;
    return 1;
}

static uint64_t hash_of(uint64_t h, uint64_t v) {
    h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
    h ^= h >> 29;
    h *= UINT64_C(0xBF58476D1CE4E5B9);
    return h ^ h >> 32;
}

/* Everything that shapes what may follow; transactions relative to their leader's last. */
static uint64_t world_hash(aaum_world *w) {
    uint64_t h = w->crashes;
    uint32_t i, k, e;
    for (i = 0; i < w->n; i++) {
        aaum_worker *a = &w->worker[i];
        dsgd_aau_core *c = &a->core;
        h = hash_of(h, (uint64_t)a->dead << 40 | a->gradients);
        if (a->dead) continue;
        h = hash_of(h, (uint64_t)c->st | (uint64_t)c->released << 4 | (uint64_t)c->impatient << 5 |
                           (uint64_t)(c->lingers == c->session) << 6 | (uint64_t)a->lingering << 7 |
                           (uint64_t)(a->linger_session == c->session) << 8 | (uint64_t)c->base << 9);
        h = hash_of(h, c->epoch);
        h = hash_of(h, c->view_hash);
        for (k = 0; k < w->n; k++) h = hash_of(h, dsgd_aau_label(c, k));
        for (k = 0; k < c->degree; k++) h = hash_of(h, a->mark[k]);
        if (c->st == DSGD_AAU_PROPOSING)
            for (k = 0; k < c->summed; k++) h = hash_of(h, a->order[k]);
        if (c->st == DSGD_AAU_LOCKED)
            h = hash_of(h, (uint64_t)c->leader << 32 | (w->worker[c->neighbour[c->leader]].core.tx - c->leader_tx));
        if (w->whole) continue;
        for (k = 0; k < c->merges; k++)
            h = hash_of(h,
                        (uint64_t)a->merge[k].u << 40 | (uint64_t)a->merge[k].v << 20 | (a->merge[k].from & 0xFFFFu));
        for (k = 0; k < c->degree; k++)
            h = hash_of(h, (uint64_t)(a->told[k].epoch_mark == c->epoch_mark) << 60 |
                               (uint64_t)a->told[k].merges << 30 | (uint64_t)(c->changes - a->told[k].view) << 1 |
                               a->told[k].base);
    }
    for (e = 0; e < 2 * w->graph->edges; e++) {
        const aaum_queue *q = &w->queue[e];
        const weft_edge ends = weft_graph_edge(w->graph, e / 2);
        const uint32_t from = e % 2 ? ends.b : ends.a, to = e % 2 ? ends.a : ends.b;
        h = hash_of(h, q->n);
        for (k = 0; k < q->n; k++) {
            const aaum_message *m = &q->m[(q->first + k) % AAUM_QUEUE];
            uint32_t id = m->id;
            if (m->kind == DSGD_AAU_PROPOSE || m->kind == DSGD_AAU_COMMIT || m->kind == DSGD_AAU_ABORT)
                id = w->worker[from].core.tx - id;
            if (m->kind == DSGD_AAU_ACCEPT || m->kind == DSGD_AAU_REJECT) id = w->worker[to].core.tx - id;
            if (m->kind == DSGD_AAU_READY) id = 0;
            h = hash_of(h, (uint64_t)m->kind << 48 | (uint64_t)m->count << 32 | id);
            for (i = 0; i < m->bytes; i++) h = hash_of(h, m->data[i]);
        }
    }
    return h;
}

/* What the world needs to be set back: the queues are long, and nearly empty. */
typedef struct shot {
    unsigned char *head; /* the world without its queues */
    uint32_t n[2 * AAUM_EDGES];
    aaum_message *m;
} shot;

/* Up to the last worker that there is. */
static size_t head_bytes(const aaum_world *w) {
    return offsetof(aaum_world, worker) + w->n * sizeof(aaum_worker);
}

static void shot_take(shot *s, const aaum_world *w) {
    uint32_t e, k, n = 0;
    s->head = (unsigned char *)malloc(head_bytes(w));
    memcpy(s->head, (const void *)w, head_bytes(w));
    for (e = 0; e < 2 * w->graph->edges; e++) n += w->queue[e].n;
    s->m = (aaum_message *)malloc((n + 1) * sizeof *s->m);
    for (n = e = 0; e < 2 * w->graph->edges; e++) {
        s->n[e] = w->queue[e].n;
        for (k = 0; k < s->n[e]; k++) s->m[n++] = w->queue[e].m[(w->queue[e].first + k) % AAUM_QUEUE];
    }
}

static void shot_back(const shot *s, aaum_world *w) {
    uint32_t e, k, n = 0;
    memcpy((void *)w, s->head, head_bytes(w));
    for (e = 0; e < 2 * w->graph->edges; e++) {
        w->queue[e].first = 0;
        w->queue[e].n = s->n[e];
        for (k = 0; k < s->n[e]; k++) w->queue[e].m[k] = s->m[n++];
    }
}

/* The k-th event that may happen now; 0: there are not that many. */
static int nth_event(aaum_world *w, uint32_t k, int *progress) {
    uint32_t i, e;
    *progress = 1;
    for (e = 0; e < 2 * w->graph->edges; e++)
        if (w->queue[e].n && k-- == 0) {
            const weft_edge ends = weft_graph_edge(w->graph, e / 2);
            aaum_deliver(w, e % 2 ? ends.b : ends.a, e % 2 ? ends.a : ends.b);
            return 1;
        }
    for (i = 0; i < w->n; i++) {
        const aaum_worker *a = &w->worker[i];
        if (a->dead) continue;
        if (a->core.st == DSGD_AAU_COMPUTING && a->gradients && k-- == 0) {
            aaum_done(w, i, 0);
            return 1;
        }
        if (a->lingering && k-- == 0) {
            aaum_timer(w, i);
            return 1;
        }
    }
    *progress = 0;
    for (i = 0; w->crashes && i < w->n; i++)
        if (!w->worker[i].dead) {
            if (k-- == 0) {
                aaum_crash(w, i, 0);
                return 1;
            }
            if (k-- == 0) {
                aaum_crash(w, i, 1);
                return 1;
            }
        }
    return 0;
}

typedef struct search {
    aaum_world *w;
    seen known;
    uint64_t states, ends, deepest;
    uint64_t limit;
} search;

static int explore(search *s, uint64_t depth) {
    shot here;
    uint32_t k;
    int moved = 0, progress, ok = 1;
    s->states++;
    if (depth > s->deepest) s->deepest = depth;
    if (!aaum_check(s->w)) return 0;
    if (s->states > s->limit) return 1;
    shot_take(&here, s->w);
    for (k = 0; ok && nth_event(s->w, k, &progress); k++) {
        moved |= progress;
        if (s->w->why[0])
            ok = 0;
        else if (seen_add(&s->known, world_hash(s->w)))
            ok = explore(s, depth + 1);
        if (ok) shot_back(&here, s->w);
    }
    if (ok && !moved) {
        s->ends++;
        ok = aaum_check_end(s->w);
    }
    free(here.head);
    free(here.m);
    return ok;
}

typedef struct config {
    const char *name;
    uint32_t workers, count;
    weft_edge edge[6];
    uint32_t gradients, fan, crashes;
    int grace;
} config;

static const config configs[] = {
    {"pair", 2, 1, {{0, 1}}, 4, 8, 0, 0},
    {"pair, grace", 2, 1, {{0, 1}}, 3, 8, 0, 1},
    {"pair, a crash", 2, 1, {{0, 1}}, 3, 8, 1, 0},
    {"path", 3, 2, {{0, 1}, {1, 2}}, 2, 8, 0, 0},
    {"path, grace", 3, 2, {{0, 1}, {1, 2}}, 2, 8, 0, 1},
    {"path, a crash", 3, 2, {{0, 1}, {1, 2}}, 2, 8, 1, 0},
    {"path led from its middle", 3, 2, {{0, 2}, {1, 2}}, 2, 8, 0, 0},
    {"path led from its middle, a crash", 3, 2, {{0, 2}, {1, 2}}, 2, 8, 1, 0},
    {"triangle", 3, 3, {{0, 1}, {0, 2}, {1, 2}}, 2, 8, 0, 0},
    {"triangle, pairs", 3, 3, {{0, 1}, {0, 2}, {1, 2}}, 2, 1, 0, 0},
    {"triangle, grace", 3, 3, {{0, 1}, {0, 2}, {1, 2}}, 1, 8, 0, 1},
    {"triangle, a crash", 3, 3, {{0, 1}, {0, 2}, {1, 2}}, 1, 8, 1, 0},
    {"star of 4", 4, 3, {{0, 3}, {1, 3}, {2, 3}}, 1, 8, 0, 0},
    {"ring of 4", 4, 4, {{0, 1}, {1, 2}, {2, 3}, {0, 3}}, 1, 8, 0, 0},
    {"path of 4", 4, 3, {{0, 1}, {1, 2}, {2, 3}}, 1, 8, 0, 0},
};
#define CONFIGS ((int)(sizeof configs / sizeof configs[0]))

static void make_graph(weft_graph *g, const config *c, unsigned char *memory, size_t bytes) {
    ck_assert_int_eq(weft_graph_from_edges(g, c->workers, c->edge, c->count, memory, bytes), WEFT_OK);
}

static void all_orders(int which, int whole, uint64_t limit) {
    static unsigned char memory[4096];
    weft_graph g;
    search s;
    const config *c = &configs[which];
    aaum_world *w = (aaum_world *)malloc(sizeof *w);
    make_graph(&g, c, memory, sizeof memory);
    memset(&s, 0, sizeof s);
    aaum_init(w, &g, c->fan, c->grace, whole, c->gradients, c->crashes);
    s.w = w;
    s.limit = limit;
    seen_add(&s.known, world_hash(w));
    if (!explore(&s, 0)) ck_abort_msg("%s: %s", c->name, w->why);
    ck_assert_msg(s.ends > 0, "%s: no end was reached", c->name);
    ck_assert_msg(s.states <= limit, "%s: more than %llu states", c->name, (unsigned long long)limit);
    if (getenv("AAU_VERBOSE"))
        printf("%-34s %-6s %8llu states, %6llu ends, depth %llu\n", c->name, whole ? "whole" : "told",
               (unsigned long long)s.states, (unsigned long long)s.ends, (unsigned long long)s.deepest);
    free(s.known.key);
    free(w);
}

START_TEST(all_orders_whole) {
    all_orders(_i, 1, 3000000);
}
END_TEST

START_TEST(all_orders_told) {
    all_orders(_i, 0, 3000000);
}
END_TEST

/* ---- drawn orders ---- */

static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* A link comes (back): both ends have said hello. */
static void join_ends(aaum_world *w, uint32_t a, uint32_t b) {
    aaum_worker *x = &w->worker[a], *y = &w->worker[b];
    uint32_t e = weft_graph_edge_index(w->graph, a, b), ca = x->view[e], cb = y->view[e];
    aaum_link(w, a, b)->n = aaum_link(w, b, a)->n = 0;
    dsgd_aau_lost(&x->core, weft_graph_slot(w->graph, a, b));
    dsgd_aau_lost(&y->core, weft_graph_slot(w->graph, b, a));
    aaum_link(w, a, b)->n = aaum_link(w, b, a)->n = 0;
    ca = ca > x->view[e] ? ca : x->view[e];
    cb = cb > y->view[e] ? cb : y->view[e];
    dsgd_aau_up(&x->core, weft_graph_slot(w->graph, a, b), cb);
    /* what the first says to the second is read after the second's own link is up */
    dsgd_aau_up(&y->core, weft_graph_slot(w->graph, b, a), ca);
    aaum_flush(w, x);
    aaum_flush(w, y);
}

typedef struct totals {
    uint64_t runs, averagings, epochs, crashes, restarts, cuts, heals, events;
} totals;

/* One world, drawn from a seed. Some workers, some links and some orders are much slower than others. */
static void one_seed(uint64_t seed, int faults, totals *t) {
    static unsigned char memory[8192];
    uint64_t rng = seed * 2654435761u + 11;
    weft_graph g;
    uint32_t n = 2 + (uint32_t)(draw(&rng) % 9), i, k, kinds = (uint32_t)(draw(&rng) % 4), slow, idle;
    weft_status s = WEFT_OK;
    aaum_world *w = (aaum_world *)malloc(sizeof *w);
    uint64_t weight[2 * AAUM_EDGES + 2 * AAUM_MOST], event, budget = 4000;
    if (kinds == 0 && n > 2) s = weft_graph_ring(&g, n, memory, sizeof memory);
    if (kinds == 1 || (kinds == 0 && n <= 2)) s = weft_graph_chain(&g, n, memory, sizeof memory);
    if (kinds == 2) s = weft_graph_erdos_renyi(&g, n, 0.7, seed, memory, sizeof memory);
    if (kinds == 3) s = weft_graph_complete(&g, n, memory, sizeof memory);
    ck_assert_int_eq(s, WEFT_OK);
    aaum_init(w, &g, (uint32_t)(1 + draw(&rng) % 3 * 4), (int)(draw(&rng) % 2), (int)(draw(&rng) % 2), 6, 0);
    for (i = 0; i < 2 * AAUM_EDGES + 2 * AAUM_MOST; i++) weight[i] = (uint64_t)1 << draw(&rng) % 6;
    slow = (uint32_t)(draw(&rng) % n);
    for (event = 0; !w->why[0]; event++) {
        uint64_t sum = 0, pick, c[2 * AAUM_EDGES + 2 * AAUM_MOST];
        int quiet;
        memset(c, 0, sizeof c);
        for (i = 0; i < 2 * g.edges; i++) c[i] = w->queue[i].n ? 8 * weight[i] : 0;
        for (i = 0; i < n; i++) {
            const aaum_worker *a = &w->worker[i];
            if (a->dead) continue;
            if (a->core.st == DSGD_AAU_COMPUTING && a->gradients)
                c[2 * AAUM_EDGES + i] = i == slow ? 1 : 4 * weight[2 * AAUM_EDGES + i];
            if (a->lingering) c[2 * AAUM_EDGES + AAUM_MOST + i] = 4;
        }
        for (i = 0; i < 2 * AAUM_EDGES + 2 * AAUM_MOST; i++) sum += c[i];
        quiet = sum == 0;
        if (faults && event < budget && draw(&rng) % 40 == 0) {
            uint32_t a = (uint32_t)(draw(&rng) % n), what = (uint32_t)(draw(&rng) % 4);
            const uint32_t *j = weft_graph_neighbours(&g, a, &k);
            uint32_t b = j[draw(&rng) % k];
            if (what == 0 && !w->worker[a].dead) {
                w->crashes = 1;
                aaum_crash(w, a, (int)(draw(&rng) % 2));
                t->crashes++;
            } else if (what == 1 && w->worker[a].dead) { /* back, and knows nothing */
                for (i = 0; i < k; i++) aaum_link(w, a, j[i])->n = aaum_link(w, j[i], a)->n = 0;
                aaum_make(w, a, 1);
                for (i = 0; i < k; i++)
                    if (!w->worker[j[i]].dead) join_ends(w, a, j[i]);
                t->restarts++;
            } else if (what == 2 && !w->worker[a].dead && !w->worker[b].dead &&
                       !aaum_in_queue(aaum_link(w, a, b), AAUM_LOST) && !aaum_in_queue(aaum_link(w, b, a), AAUM_LOST)) {
                int keep = (int)(draw(&rng) % 2);
                aaum_break(w, a, b, keep);
                aaum_break(w, b, a, keep);
                w->faulty = 1;
                t->cuts++;
            } else if (what == 3 && !w->worker[a].dead && !w->worker[b].dead &&
                       !(w->worker[a].mark[weft_graph_slot(&g, a, b)] & DSGD_AAU_LINK) &&
                       !(w->worker[b].mark[weft_graph_slot(&g, b, a)] & DSGD_AAU_LINK)) {
                join_ends(w, a, b);
                t->heals++;
            }
            aaum_check(w);
            continue;
        }
        if (quiet) break;
        for (pick = draw(&rng) % sum, i = 0; pick >= c[i]; i++) pick -= c[i];
        if (i < 2 * AAUM_EDGES) {
            const weft_edge ends = weft_graph_edge(&g, i / 2);
            aaum_deliver(w, i % 2 ? ends.b : ends.a, i % 2 ? ends.a : ends.b);
        } else if (i < 2 * AAUM_EDGES + AAUM_MOST) {
            aaum_done(w, i - 2 * AAUM_EDGES, (double)(draw(&rng) % 64));
        } else {
            aaum_timer(w, i - 2 * AAUM_EDGES - AAUM_MOST);
        }
        aaum_check(w);
        if (event > 400000) aaum_fail(w, "no end after 400,000 events");
    }
    idle = 0;
    for (i = 0; i < n; i++) idle += w->worker[i].dead || w->worker[i].core.st == DSGD_AAU_COMPUTING;
    if (!w->why[0]) aaum_check_end(w);
    if (w->why[0]) ck_abort_msg("seed %llu, faults %d: %s", (unsigned long long)seed, faults, w->why);
    ck_assert_uint_gt(idle, 0); /* somebody has run out of gradients: all others may wait for it */
    t->runs++;
    t->averagings += w->averagings;
    t->events += event;
    for (i = 0; i < n; i++) t->epochs += w->worker[i].core.epochs;
    free(w);
}

static void seeds(uint64_t from, uint64_t to, int faults) {
    totals t;
    memset(&t, 0, sizeof t);
    for (; from < to; from++) one_seed(from, faults, &t);
    ck_assert_uint_gt(t.averagings, t.runs);
    ck_assert_uint_gt(t.epochs, t.runs / 2);
    if (faults) {
        ck_assert_uint_gt(t.crashes, 50);
        ck_assert_uint_gt(t.restarts, 50);
        ck_assert_uint_gt(t.cuts, 50);
        ck_assert_uint_gt(t.heals, 20);
    }
    if (getenv("AAU_VERBOSE"))
        printf(
            "%llu seeds: %llu events, %llu averagings, %llu epochs seen, %llu crashes, %llu restarts, %llu cuts, %llu "
            "heals\n",
            (unsigned long long)t.runs, (unsigned long long)t.events, (unsigned long long)t.averagings,
            (unsigned long long)t.epochs, (unsigned long long)t.crashes, (unsigned long long)t.restarts,
            (unsigned long long)t.cuts, (unsigned long long)t.heals);
}

static uint64_t how_many(uint64_t otherwise) {
    const char *s = getenv("AAU_SEEDS");
    return s ? strtoull(s, NULL, 10) : otherwise;
}

START_TEST(drawn_orders) {
    seeds(1, 1 + how_many(4000), 0);
}
END_TEST

START_TEST(drawn_orders_with_faults) {
    seeds(1000001, 1000001 + how_many(6000), 1);
}
END_TEST

int main(void) {
    Suite *s = suite_create("dsgd_aau machine");
    TCase *t = tcase_create("machine");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, all_orders_whole, 0, CONFIGS);
    tcase_add_loop_test(t, all_orders_told, 0, CONFIGS);
    tcase_add_test(t, drawn_orders);
    tcase_add_test(t, drawn_orders_with_faults);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
