/* SPDX-License-Identifier: MIT
 * graph.h: every kind against its definition, edges of every sort refused by name, weights that are doubly stochastic
 * whoever is there, and a doctor whose spectral gaps are those of closed forms and of a dense solver. */
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

/* In hot loops: Check's own assertions cost a system call each. */
#define need(e)                                                                                                        \
    do {                                                                                                               \
        if (!(e)) ck_abort_msg("not so: %s", #e);                                                                      \
    } while (0)

/* ---- help ---- */

static uint64_t drawn = 1;

static uint64_t draw(void) { /* xorshift: not the generator under test */
    drawn ^= drawn << 13;
    drawn ^= drawn >> 7;
    drawn ^= drawn << 17;
    return drawn;
}

static uint32_t below(uint32_t n) { return (uint32_t)((draw() >> 32) * n >> 32); }

static double unit(void) { return (double)(draw() >> 11) / 9007199254740992.0; }

static void begin(uint64_t seed) {
    drawn = seed * 0x9E3779B97F4A7C15u + 88172645463325252u;
    (void)draw();
}

static void *room(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    ck_assert_ptr_nonnull(p);
    return p;
}

/* Any constructor's arguments, so that one function can measure, make, and look. */
typedef enum kind {
    RING,
    CHAIN,
    STAR,
    COMPLETE,
    TORUS,
    HYPERCUBE,
    EXPONENTIAL,
    RANDOM,
    SMALL_WORLD,
    EDGES,
    KINDS
} kind;

typedef struct plan {
    kind kind;
    uint32_t n, m; /* torus: rows and columns; hypercube: dimensions; small world: workers and degree */
    double p;
    uint64_t seed;
    const weft_edge *edge;
    size_t count;
} plan;

static plan of(kind k, uint32_t n, uint32_t m, double p, uint64_t seed) {
    plan x;
    memset(&x, 0, sizeof x);
    x.kind = k;
    x.n = n;
    x.m = m;
    x.p = p;
    x.seed = seed;
    return x;
}

static plan of_edges(uint32_t n, const weft_edge *edge, size_t count) {
    plan x = of(EDGES, n, 0, 0, 0);
    x.edge = edge;
    x.count = count;
    return x;
}

static weft_status construct(weft_graph *g, const plan *p, void *memory, size_t bytes) {
    switch (p->kind) {
    case RING: return weft_graph_ring(g, p->n, memory, bytes);
    case CHAIN: return weft_graph_chain(g, p->n, memory, bytes);
    case STAR: return weft_graph_star(g, p->n, memory, bytes);
    case COMPLETE: return weft_graph_complete(g, p->n, memory, bytes);
    case TORUS: return weft_graph_torus(g, p->n, p->m, memory, bytes);
    case HYPERCUBE: return weft_graph_hypercube(g, p->n, memory, bytes);
    case EXPONENTIAL: return weft_graph_exponential(g, p->n, memory, bytes);
    case RANDOM: return weft_graph_erdos_renyi(g, p->n, p->p, p->seed, memory, bytes);
    case SMALL_WORLD: return weft_graph_small_world(g, p->n, p->m, p->p, p->seed, memory, bytes);
    case EDGES: return weft_graph_from_edges(g, p->n, p->edge, p->count, memory, bytes);
    case KINDS: break;
    }
    return WEFT_ERR_ARGUMENT;
}

/* A graph in exactly the memory that it asks for, which is returned: the caller frees it. */
static void *make(weft_graph *g, plan p) {
    void *memory;
    memset(g, 0xA5, sizeof *g);
    ck_assert_int_eq(construct(g, &p, NULL, 0), WEFT_OK);
    ck_assert_uint_eq(g->workers, 0);
    memory = room(g->bytes);
    ck_assert_int_eq(construct(g, &p, memory, g->bytes), WEFT_OK);
    return memory;
}

#define MOST 64 /* of the graphs that are looked at as a matrix */

typedef struct matrix {
    uint32_t n;
    unsigned char at[MOST][MOST];
} matrix;

static int power_of_two(uint32_t v) { return v && !(v & (v - 1)); }

/* Is there an edge, by the definition of the kind? */
static int defined(const plan *p, uint32_t n, uint32_t i, uint32_t j) {
    uint32_t far = (i + n - j) % n, back = (j + n - i) % n, c = p->m;
    if (i == j) return 0;
    switch (p->kind) {
    case RING: return far == 1 || back == 1;
    case CHAIN: return i + 1 == j || j + 1 == i;
    case STAR: return i == 0 || j == 0;
    case COMPLETE: return 1;
    case TORUS: {
        uint32_t r = p->n, ri = i / c, rj = j / c, ci = i % c, cj = j % c;
        if (ri == rj) return (ci + 1) % c == cj || (cj + 1) % c == ci;
        return ci == cj && ((ri + 1) % r == rj || (rj + 1) % r == ri);
    }
    case HYPERCUBE: return power_of_two(i ^ j);
    case EXPONENTIAL: return power_of_two(far) || power_of_two(back);
    case SMALL_WORLD: /* not yet rewired */ return far <= p->m / 2 || back <= p->m / 2;
    default: return -1;
    }
}

static void define(matrix *a, const plan *p, uint32_t n) {
    uint32_t i, j;
    memset(a, 0, sizeof *a);
    a->n = n;
    for (i = 0; i < n; i++)
        for (j = 0; j < n; j++) a->at[i][j] = (unsigned char)defined(p, n, i, j);
}

/* Everything that a graph can be asked, against the matrix. */
static void agrees(const weft_graph *g, const matrix *a) {
    uint32_t i, j, k, edges = 0, least = UINT32_MAX, most = 0, n = a->n;
    ck_assert_uint_eq(g->struct_size, sizeof *g);
    ck_assert_int_eq(g->detail.status, WEFT_OK);
    ck_assert_uint_eq(g->workers, n);
    for (i = 0; i < n; i++) {
        uint32_t count = 77, slot = 0;
        const uint32_t *row = weft_graph_neighbours(g, i, &count);
        need(count == weft_graph_degree(g, i));
        need(count == weft_graph_degree_among(g, NULL, i));
        for (k = 1; k < count; k++) need(row[k - 1] < row[k]);
        for (j = 0; j < n; j++) {
            weft_edge e;
            uint32_t index = weft_graph_edge_index(g, i, j);
            need(weft_graph_has_edge(g, i, j) == a->at[i][j]);
            need(index == weft_graph_edge_index(g, j, i));
            if (!a->at[i][j]) {
                need(weft_graph_slot(g, i, j) == WEFT_NO_EDGE && index == WEFT_NO_EDGE);
                continue;
            }
            need(slot < count && row[slot] == j);
            need(weft_graph_slot(g, i, j) == slot);
            slot++;
            if (j < i) continue;
            need(index == edges); /* in the order of (lower end, higher end), without holes */
            edges++;
            e = weft_graph_edge(g, index);
            need(e.a == i && e.b == j);
        }
        need(slot == count);
        least = count < least ? count : least;
        most = count > most ? count : most;
    }
    ck_assert_uint_eq(g->edges, edges);
    ck_assert_uint_eq(g->least_degree, least);
    ck_assert_uint_eq(g->most_degree, most);
}

static void read_back(matrix *a, const weft_graph *g) {
    uint32_t i, j;
    memset(a, 0, sizeof *a);
    a->n = g->workers;
    for (i = 0; i < a->n; i++)
        for (j = 0; j < a->n; j++) a->at[i][j] = (unsigned char)weft_graph_has_edge(g, i, j);
}

/* Which workers hang together: the lowest of each part, by walking until nothing changes. */
static uint32_t parts_of(const matrix *a, const unsigned char *present, uint32_t *label) {
    uint32_t i, j, parts = 0;
    int changed = 1;
    for (i = 0; i < a->n; i++) label[i] = !present || present[i] ? i : WEFT_NO_RANK;
    while (changed)
        for (changed = 0, i = 0; i < a->n; i++)
            for (j = 0; j < a->n; j++)
                if (a->at[i][j] && label[i] != WEFT_NO_RANK && label[j] != WEFT_NO_RANK && label[j] < label[i]) {
                    label[i] = label[j];
                    changed = 1;
                }
    for (i = 0; i < a->n; i++) parts += label[i] == i;
    return parts;
}

/* A connected graph of any shape: a random tree and more edges, in random order and directions. The caller frees it. */
static void *any_graph(weft_graph *g, uint32_t n, double more, matrix *a) {
    weft_edge *e = (weft_edge *)room(n * n * sizeof *e);
    uint32_t i, j, count = 0, order[MOST];
    void *memory;
    memset(a, 0, sizeof *a);
    a->n = n;
    for (i = 0; i < n; i++) {
        j = below(i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (i = 1; i < n; i++) {
        j = below(i);
        a->at[order[i]][order[j]] = a->at[order[j]][order[i]] = 1;
    }
    for (i = 0; i < n; i++)
        for (j = 0; j < i; j++)
            if (unit() < more) a->at[i][j] = a->at[j][i] = 1;
    for (i = 0; i < n; i++)
        for (j = 0; j < i; j++)
            if (a->at[i][j]) {
                int turn = (int)below(2);
                uint32_t k = below(count + 1);
                e[count++] = e[k];
                e[k].a = turn ? i : j;
                e[k].b = turn ? j : i;
            }
    memory = make(g, of_edges(n, e, count));
    free(e); /* it has been copied */
    return memory;
}

static int some_present(unsigned char *present, uint32_t n) {
    uint32_t i, some = 0;
    double chance = unit();
    for (i = 0; i < n; i++) {
        present[i] = unit() < chance ? (unsigned char)(1 + below(255)) : 0;
        some += present[i] != 0;
    }
    return some > 0;
}

static void is_none(const weft_graph *g) {
    ck_assert_uint_eq(g->struct_size, sizeof *g);
    ck_assert_uint_eq(g->workers, 0);
    ck_assert_uint_eq(g->edges, 0);
    ck_assert_ptr_null(g->offset);
    ck_assert_ptr_null(g->neighbour);
    ck_assert_ptr_null(g->upper);
}

static void refused(const weft_graph *g, weft_status status, const char *field, uint64_t expected, uint64_t got) {
    is_none(g);
    ck_assert_int_eq(g->detail.status, status);
    ck_assert_ptr_nonnull(g->detail.field);
    ck_assert_msg(strstr(g->detail.field, field) != NULL, "\"%s\" does not say %s", g->detail.field, field);
    ck_assert_uint_eq(g->detail.expected, expected);
    ck_assert_uint_eq(g->detail.got, got);
}

/* ---- shapes ---- */

START_TEST(regular_graphs_are_as_defined) {
    static const kind sized[] = {RING, CHAIN, STAR, COMPLETE, EXPONENTIAL};
    static matrix a;
    weft_graph g;
    uint32_t n, m, k;
    plan p;
    for (k = 0; k < sizeof sized / sizeof sized[0]; k++)
        for (n = 1; n <= MOST; n++) {
            void *memory = make(&g, p = of(sized[k], n, 0, 0, 0));
            define(&a, &p, n);
            agrees(&g, &a);
            ck_assert_uint_eq(g.bytes, WEFT_GRAPH_BYTES(n, g.edges));
            free(memory);
        }
    for (n = 1; n <= 8; n++)
        for (m = 1; m <= 8; m++) {
            void *memory = make(&g, p = of(TORUS, n, m, 0, 0));
            define(&a, &p, n * m);
            agrees(&g, &a);
            ck_assert_uint_eq(g.bytes, WEFT_GRAPH_BYTES(n * m, g.edges));
            free(memory);
        }
    for (n = 0; n <= 6; n++) {
        void *memory = make(&g, p = of(HYPERCUBE, n, 0, 0, 0));
        define(&a, &p, 1u << n);
        agrees(&g, &a);
        ck_assert_uint_eq(g.bytes, WEFT_GRAPH_BYTES(1u << n, g.edges));
        free(memory);
    }
}
END_TEST

/* The lines of the manual. */
START_TEST(in_memory_of_a_constant_size) {
    static unsigned char memory[WEFT_GRAPH_BYTES(32, 64)];
    weft_graph g;
    ck_assert_int_eq(weft_graph_torus(&g, 4, 8, memory, sizeof memory), WEFT_OK);
    ck_assert_uint_eq(g.workers, 32);
    ck_assert_uint_eq(g.edges, 64);
    ck_assert_uint_eq(g.bytes, sizeof memory);
}
END_TEST

static plan small_plan(kind k) {
    static const weft_edge e[] = {{4, 2}, {0, 1}, {2, 1}, {3, 1}, {0, 4}};
    switch (k) {
    case TORUS: return of(TORUS, 3, 4, 0, 0);
    case HYPERCUBE: return of(HYPERCUBE, 3, 0, 0, 0);
    case RANDOM: return of(RANDOM, 12, 0, 0.4, 5);
    case SMALL_WORLD: return of(SMALL_WORLD, 12, 4, 0.3, 5);
    case EDGES: return of_edges(5, e, 5);
    default: return of(k, 12, 0, 0, 0);
    }
}

/* Exactly the bytes asked for, from any start, and not one beside them; one less is refused. */
START_TEST(memory_is_exact) {
    plan p = small_plan((kind)_i);
    weft_graph g, first;
    unsigned char *memory;
    size_t bytes, shift, i;
    memset(&g, 0x5A, sizeof g);
    ck_assert_int_eq(construct(&g, &p, NULL, 0), WEFT_OK);
    is_none(&g);
    ck_assert_int_eq(g.detail.status, WEFT_OK);
    bytes = g.bytes;
    ck_assert_uint_gt(bytes, 0);
    memory = (unsigned char *)room(bytes + 80);
    for (shift = 0; shift < 8; shift++) {
        memset(memory, 0xEE, bytes + 80);
        ck_assert_int_eq(construct(&g, &p, memory + 32 + shift, bytes), WEFT_OK);
        ck_assert_uint_eq((uintptr_t)g.offset % 4, 0);
        for (i = 0; i < 32 + shift; i++) need(memory[i] == 0xEE);
        for (i = 32 + shift + bytes; i < bytes + 80; i++) need(memory[i] == 0xEE);
        if (shift == 0) first = g;
        ck_assert_uint_eq(g.edges, first.edges);
    }
    memset(memory, 0xEE, bytes + 80);
    ck_assert_int_eq(construct(&g, &p, memory, bytes - 1), WEFT_ERR_MEMORY);
    refused(&g, WEFT_ERR_MEMORY, "bytes", bytes, bytes - 1);
    ck_assert_uint_eq(g.bytes, bytes); /* so that one can try again */
    ck_assert_int_eq(construct(&g, &p, memory, 0), WEFT_ERR_MEMORY);
    ck_assert_int_eq(construct(&g, &p, NULL, bytes), WEFT_ERR_ARGUMENT);
    refused(&g, WEFT_ERR_ARGUMENT, "memory", bytes, 0);
    for (i = 0; i < bytes + 80; i++) need(memory[i] == 0xEE);
    ck_assert_int_eq(construct(NULL, &p, memory, bytes), WEFT_ERR_ARGUMENT);
    free(memory);
}
END_TEST

static void bad(plan p, weft_status status, const char *field, uint64_t expected, uint64_t got) {
    weft_graph g;
    unsigned char memory[64];
    memset(&g, 0x5A, sizeof g);
    ck_assert_int_eq(construct(&g, &p, NULL, 0), status);
    refused(&g, status, field, expected, got);
    ck_assert_uint_eq(g.detail.peer, WEFT_NO_RANK);
    memset(&g, 0x5A, sizeof g);
    ck_assert_int_eq(construct(&g, &p, memory, sizeof memory), status);
    refused(&g, status, field, expected, got);
}

static uint64_t bits(double v) { return weft_double_bits(v); }

START_TEST(sizes_that_are_none) {
    static const kind sized[] = {RING, CHAIN, STAR, COMPLETE, EXPONENTIAL};
    const uint64_t most = UINT32_MAX / 2;
    const double nan_ = sqrt(-1.0), inf = 1e308 * 10;
    size_t k;
    for (k = 0; k < sizeof sized / sizeof sized[0]; k++)
        bad(of(sized[k], 0, 0, 0, 0), WEFT_ERR_ARGUMENT, "workers", 1, 0);
    bad(of(RING, UINT32_MAX, 0, 0, 0), WEFT_ERR_ARGUMENT, "workers", UINT32_MAX - 1, UINT32_MAX);
    bad(of(RING, 1u << 31, 0, 0, 0), WEFT_ERR_OVERFLOW, "edges", most, 1u << 31);
    bad(of(STAR, UINT32_MAX - 1, 0, 0, 0), WEFT_ERR_OVERFLOW, "edges", most, UINT32_MAX - 2);
    bad(of(COMPLETE, 65537, 0, 0, 0), WEFT_ERR_OVERFLOW, "edges", most, UINT64_C(65537) * 65536 / 2);
    bad(of(COMPLETE, UINT32_MAX - 1, 0, 0, 0), WEFT_ERR_OVERFLOW, "edges", most,
        UINT64_C(0xFFFFFFFE) * 0xFFFFFFFDu / 2);
    bad(of(EXPONENTIAL, 1u << 28, 0, 0, 0), WEFT_ERR_OVERFLOW, "edges", most, (UINT64_C(1) << 28) * 55 / 2);
    bad(of(TORUS, 0, 5, 0, 0), WEFT_ERR_ARGUMENT, "rows", 1, 0);
    bad(of(TORUS, 5, 0, 0, 0), WEFT_ERR_ARGUMENT, "columns", 1, 0);
    bad(of(TORUS, 65536, 65536, 0, 0), WEFT_ERR_OVERFLOW, "rows * columns", UINT32_MAX - 1, UINT64_C(1) << 32);
    bad(of(TORUS, 65536, 32768, 0, 0), WEFT_ERR_OVERFLOW, "edges", most, UINT64_C(1) << 32);
    bad(of(HYPERCUBE, 32, 0, 0, 0), WEFT_ERR_OVERFLOW, "dimensions", 31, 32);
    bad(of(HYPERCUBE, 31, 0, 0, 0), WEFT_ERR_OVERFLOW, "edges", most, UINT64_C(31) << 30);
    bad(of(RANDOM, 0, 0, 0.5, 0), WEFT_ERR_ARGUMENT, "workers", 1, 0);
    bad(of(RANDOM, 9, 0, 0, 0), WEFT_ERR_ARGUMENT, "probability", bits(1), bits(0));
    bad(of(RANDOM, 9, 0, -0.1, 0), WEFT_ERR_ARGUMENT, "probability", bits(1), bits(-0.1));
    bad(of(RANDOM, 9, 0, 1.0000000000000002, 0), WEFT_ERR_ARGUMENT, "probability", bits(1), bits(1.0000000000000002));
    bad(of(RANDOM, 9, 0, inf, 0), WEFT_ERR_ARGUMENT, "probability", bits(1), bits(inf));
    bad(of(RANDOM, 9, 0, nan_, 0), WEFT_ERR_ARGUMENT, "probability", bits(1), bits(nan_));
    bad(of(RANDOM, UINT32_MAX - 1, 0, 1, 0), WEFT_ERR_OVERFLOW, "edges", most, UINT64_C(0xFFFFFFFE) * 0xFFFFFFFDu / 2);
    bad(of(SMALL_WORLD, 9, 0, 0.1, 0), WEFT_ERR_ARGUMENT, "degree", 2, 0);
    bad(of(SMALL_WORLD, 9, 1, 0.1, 0), WEFT_ERR_ARGUMENT, "degree", 2, 1);
    bad(of(SMALL_WORLD, 9, 5, 0.1, 0), WEFT_ERR_ARGUMENT, "degree", 4, 5);
    bad(of(SMALL_WORLD, 9, 10, 0.1, 0), WEFT_ERR_ARGUMENT, "degree", 8, 10);
    bad(of(SMALL_WORLD, 2, 2, 0.1, 0), WEFT_ERR_ARGUMENT, "degree", 2, 2);
    bad(of(SMALL_WORLD, 0, 2, 0.1, 0), WEFT_ERR_ARGUMENT, "degree", 2, 2);
    bad(of(SMALL_WORLD, 9, 4, -1e-300, 0), WEFT_ERR_ARGUMENT, "rewire", bits(1), bits(-1e-300));
    bad(of(SMALL_WORLD, 9, 4, 1.5, 0), WEFT_ERR_ARGUMENT, "rewire", bits(1), bits(1.5));
    bad(of(SMALL_WORLD, 9, 4, nan_, 0), WEFT_ERR_ARGUMENT, "rewire", bits(1), bits(nan_));
    bad(of(SMALL_WORLD, UINT32_MAX - 1, 2, 0, 0), WEFT_ERR_OVERFLOW, "edges", most, UINT32_MAX - 1);
    bad(of_edges(0, NULL, 0), WEFT_ERR_ARGUMENT, "workers", 1, 0);
    bad(of_edges(3, NULL, 2), WEFT_ERR_ARGUMENT, "edge", 1, 0);
    if (SIZE_MAX > UINT32_MAX)
        bad(of_edges(3, NULL, SIZE_MAX), WEFT_ERR_OVERFLOW, "edges", most, SIZE_MAX);
    else /* the last that fits 32 bits of edges does not fit those of size_t */
        bad(of(RING, 0x7FFFFFFFu, 0, 0, 0), WEFT_ERR_OVERFLOW, "bytes", SIZE_MAX, UINT64_C(0x7FFFFFFF) * 16 + 11);
}
END_TEST

START_TEST(numbers_that_are_no_workers) {
    static const uint32_t stranger[] = {9, 10, 1u << 31, WEFT_NO_RANK - 1, WEFT_NO_RANK};
    unsigned char present[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    weft_mixing mixing;
    weft_graph g, none;
    weft_edge e;
    void *memory = make(&g, of(COMPLETE, 9, 0, 0, 0));
    size_t k;
    uint32_t count;
    memset(&mixing, 0, sizeof mixing);
    mixing.present = present;
    memset(&none, 0, sizeof none);
    for (k = 0; k < sizeof stranger / sizeof stranger[0]; k++) {
        uint32_t s = stranger[k];
        count = 7;
        weft_graph_neighbours(&g, s, &count);
        ck_assert_uint_eq(count, 0);
        ck_assert_uint_eq(weft_graph_degree(&g, s), 0);
        ck_assert_uint_eq(weft_graph_degree_among(&g, present, s), 0);
        ck_assert_int_eq(weft_graph_has_edge(&g, 3, s), 0);
        ck_assert_int_eq(weft_graph_has_edge(&g, s, 3), 0);
        ck_assert_uint_eq(weft_graph_slot(&g, s, s), WEFT_NO_EDGE);
        ck_assert_uint_eq(weft_graph_edge_index(&g, s, 3), WEFT_NO_EDGE);
        ck_assert_uint_eq(weft_graph_edge_index(&g, 3, s), WEFT_NO_EDGE);
        ck_assert_uint_eq(weft_graph_edge_index(&g, s, s), WEFT_NO_EDGE);
        ck_assert_double_eq(weft_graph_weight(&g, &mixing, s, 3), 0);
        ck_assert_double_eq(weft_graph_weight(&g, &mixing, 3, s), 0);
        ck_assert_double_eq(weft_graph_weight(&g, &mixing, s, s), 0);
        ck_assert_uint_eq(weft_graph_one_peer(9, k, s), WEFT_NO_RANK);
    }
    e = weft_graph_edge(&g, g.edges);
    ck_assert(e.a == WEFT_NO_RANK && e.b == WEFT_NO_RANK);
    e = weft_graph_edge(&g, WEFT_NO_EDGE);
    ck_assert(e.a == WEFT_NO_RANK && e.b == WEFT_NO_RANK);
    ck_assert_uint_eq(weft_graph_degree(&none, 0), 0); /* a graph that is none may be asked, too */
    ck_assert_uint_eq(weft_graph_edge_index(&none, 0, 1), WEFT_NO_EDGE);
    ck_assert_uint_eq(weft_graph_parts(&none, NULL, &count), 0);
    free(memory);
}
END_TEST

START_TEST(edge_lists) {
    static matrix a;
    int round;
    begin(11);
    for (round = 0; round < 400; round++) {
        weft_graph g;
        void *memory = any_graph(&g, 1 + below(MOST), unit() * unit(), &a);
        agrees(&g, &a);
        ck_assert_uint_eq(g.bytes, WEFT_GRAPH_BYTES(a.n, g.edges));
        free(memory);
    }
}
END_TEST

/* Rows too long for a sort that takes a step a pair. */
START_TEST(long_rows) {
    const uint32_t n = 200000;
    weft_edge *e = (weft_edge *)room(n * sizeof *e);
    uint32_t i, k;
    weft_graph g;
    void *memory;
    begin(12);
    for (i = 1; i < n; i++) {
        k = below(i);
        e[i - 1] = e[k];
        e[k].a = i;
        e[k].b = 0;
    }
    memory = make(&g, of_edges(n, e, n - 1));
    ck_assert_uint_eq(g.most_degree, n - 1);
    for (i = 0; i < n - 1; i++) need(g.neighbour[i] == i + 1);
    for (i = 1; i < n; i++) need(weft_graph_edge_index(&g, i, 0) == i - 1);
    free(memory);
    free(e);
}
END_TEST

START_TEST(bad_edges_are_named) {
    static matrix a;
    weft_edge e[MOST * MOST];
    unsigned char memory[WEFT_GRAPH_BYTES(MOST, MOST * MOST)];
    uint32_t label[MOST];
    int round, kinds[6] = {0, 0, 0, 0, 0, 0};
    begin(13);
    for (round = 0; round < 600; round++) {
        uint32_t n = 2 + below(30), count, k, at, x, y;
        weft_graph g;
        void *m = any_graph(&g, n, 0.1, &a);
        int what = (int)below(6);
        count = g.edges;
        for (k = 0; k < count; k++) {
            e[k] = weft_graph_edge(&g, k);
            if (below(2)) {
                x = e[k].a;
                e[k].a = e[k].b;
                e[k].b = x;
            }
        }
        free(m);
        at = below(count);
        kinds[what]++;
        switch (what) {
        case 0: /* one end too high */
        case 1:
            x = below(2) ? n : n + below(WEFT_NO_RANK - n);
            y = what == 0 ? e[at].b : e[at].a;
            if (what == 0)
                e[at].a = x;
            else
                e[at].b = x;
            ck_assert_int_eq(weft_graph_from_edges(&g, n, e, count, memory, sizeof memory), WEFT_ERR_ARGUMENT);
            refused(&g, WEFT_ERR_ARGUMENT, "no such worker", n - 1, x);
            ck_assert_uint_eq(g.detail.peer, y);
            break;
        case 2: /* from a worker to itself */
            e[at].a = e[at].b;
            ck_assert_int_eq(weft_graph_from_edges(&g, n, e, count, memory, sizeof memory), WEFT_ERR_ARGUMENT);
            refused(&g, WEFT_ERR_ARGUMENT, "itself", e[at].a, e[at].a);
            break;
        case 3: /* twice, in the same direction or the other */
        case 4:
            k = below(count + 1);
            x = e[at].a;
            y = e[at].b;
            memmove(e + k + 1, e + k, (count - k) * sizeof e[0]);
            e[k].a = what == 3 ? x : y;
            e[k].b = what == 3 ? y : x;
            at += k <= at;
            ck_assert_int_eq(weft_graph_from_edges(&g, n, e, count + 1, memory, sizeof memory), WEFT_ERR_ARGUMENT);
            refused(&g, WEFT_ERR_ARGUMENT, "twice", at < k ? at : k, at < k ? k : at);
            ck_assert_uint_eq(g.detail.peer, x < y ? x : y);
            break;
        case 5: { /* in parts: cut a worker's edges, all but those to lower ones */
            uint32_t cut = 1 + below(n - 1), reached = 0, kept = 0;
            for (k = 0; k < count; k++)
                if ((e[k].a < cut) == (e[k].b < cut)) e[kept++] = e[k];
            memset(&a, 0, sizeof a);
            a.n = n;
            for (k = 0; k < kept; k++) a.at[e[k].a][e[k].b] = a.at[e[k].b][e[k].a] = 1;
            parts_of(&a, NULL, label);
            for (k = 0; k < n; k++) reached += label[k] == 0;
            ck_assert_int_eq(weft_graph_from_edges(&g, n, e, kept, memory, sizeof memory), WEFT_ERR_ARGUMENT);
            refused(&g, WEFT_ERR_ARGUMENT, "not connected", n, reached);
            for (k = 0; label[k] == 0; k++) continue;
            ck_assert_uint_eq(g.detail.peer, k);
            break;
        }
        }
    }
    for (round = 0; round < 6; round++) ck_assert_int_gt(kinds[round], 50);
}
END_TEST

START_TEST(parts_among_those_present) {
    static matrix a;
    uint32_t label[MOST], expected[MOST], i;
    unsigned char present[MOST];
    int round, apart = 0, nobody = 0;
    begin(14);
    for (round = 0; round < 1000; round++) {
        weft_graph g;
        void *memory = any_graph(&g, 1 + below(MOST), 0.05 * unit(), &a);
        uint32_t parts, degree, j;
        nobody += !some_present(present, a.n);
        parts = parts_of(&a, present, expected);
        apart += parts > 1;
        need(weft_graph_parts(&g, present, label) == parts);
        for (i = 0; i < a.n; i++) need(label[i] == expected[i]);
        need(weft_graph_connected(&g, present, label) == (parts <= 1));
        need(weft_graph_parts(&g, NULL, label) == 1);
        for (i = 0; i < a.n; i++) {
            for (j = degree = 0; j < a.n; j++) degree += a.at[i][j] && present[j];
            need(label[i] == 0);
            need(weft_graph_degree_among(&g, present, i) == (present[i] ? degree : 0));
        }
        free(memory);
    }
    ck_assert_int_gt(apart, 100);
    ck_assert_int_gt(nobody, 0);
}
END_TEST

START_TEST(hashes_tell_graphs_apart) {
    static const weft_edge square[] = {{0, 1}, {1, 2}, {2, 3}, {3, 0}}, again[] = {{0, 3}, {3, 2}, {1, 0}, {2, 1}};
    static const weft_edge crossed[] = {{0, 2}, {1, 2}, {1, 3}, {3, 0}}, more[] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}};
    static const weft_edge path[] = {{2, 0}, {0, 1}, {1, 3}}, turned[] = {{3, 0}, {0, 1}, {1, 2}};
    weft_graph g[6];
    void *m[6];
    uint64_t h[6];
    weft_detail d = weft_detail_none();
    int i, k;
    m[0] = make(&g[0], of_edges(4, square, 4));
    m[1] = make(&g[1], of_edges(4, again, 4));
    m[2] = make(&g[2], of_edges(4, crossed, 4));
    m[3] = make(&g[3], of_edges(5, more, 4));
    m[4] = make(&g[4], of_edges(4, path, 3));
    m[5] = make(&g[5], of_edges(4, turned, 3)); /* lower ends alike */
    for (i = 0; i < 6; i++) h[i] = weft_graph_hash(&g[i]);
    ck_assert_uint_eq(h[0], h[1]);
    for (i = 1; i < 6; i++)
        for (k = i + 1; k < 6; k++) ck_assert_uint_ne(h[i], h[k]);
    ck_assert_int_eq(weft_graph_check(&g[0], 4, &d), WEFT_OK);
    ck_assert_int_eq(weft_graph_check(&g[0], 5, &d), WEFT_ERR_ARGUMENT);
    ck_assert(d.expected == 5 && d.got == 4 && strstr(d.field, "graph.workers"));
    g[0].struct_size--;
    ck_assert_int_eq(weft_graph_check(&g[0], 4, &d), WEFT_ERR_ABI);
    ck_assert(d.expected == sizeof g[0] && d.got == sizeof g[0] - 1);
    ck_assert_int_eq(weft_graph_check(NULL, 4, &d), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_graph_ring(&g[1], 4, NULL, 0), WEFT_OK); /* only measured */
    ck_assert_int_eq(weft_graph_check(&g[1], 4, &d), WEFT_ERR_ARGUMENT);
    ck_assert(d.expected == 4 && d.got == 0);
    for (i = 0; i < 6; i++) free(m[i]);
}
END_TEST

/* ---- random graphs ---- */

/* The first draw of an Erdos-Renyi graph, connected or not, from what the header says of its generator. */
static uint64_t coin(uint64_t key, uint64_t counter) {
    uint64_t z = key + (counter + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void drawn_graph(matrix *a, const plan *p, uint64_t which) {
    uint64_t key = coin(p->seed, which);
    uint32_t i, j;
    memset(a, 0, sizeof *a);
    a->n = p->n;
    for (i = 0; i < p->n; i++)
        for (j = i + 1; j < p->n; j++)
            a->at[i][j] = a->at[j][i] = (double)(coin(key, (uint64_t)i * p->n + j) >> 11) < p->p * 9007199254740992.0;
}

START_TEST(erdos_renyi_is_the_first_connected_draw) {
    static matrix a, b;
    uint32_t label[MOST], again = 0, k;
    uint64_t seed;
    for (seed = 0; seed < 600; seed++) {
        plan p = of(RANDOM, 2 + (uint32_t)(seed % 40), 0, 0.2 + 0.1 * (double)(seed % 7), seed * seed);
        weft_graph g;
        void *memory = make(&g, p);
        for (k = 0; drawn_graph(&a, &p, k), parts_of(&a, NULL, label) != 1; k++) continue;
        again += k > 0;
        agrees(&g, &a);
        ck_assert_uint_ge(g.bytes, WEFT_GRAPH_BYTES(p.n, g.edges));
        read_back(&b, &g);
        ck_assert_mem_eq(&a, &b, sizeof a);
        free(memory);
    }
    ck_assert_uint_gt(again, 50);
}
END_TEST

START_TEST(chances_in_53_bits) {
    ck_assert_uint_eq(weft_graph_threshold(0), 0);
    ck_assert_uint_eq(weft_graph_threshold(0x1p-53), 1);
    ck_assert_uint_eq(weft_graph_threshold(0.5), UINT64_C(1) << 52);
    ck_assert_uint_eq(weft_graph_threshold(1), UINT64_C(1) << 53); /* above every draw */
}
END_TEST

START_TEST(erdos_renyi_that_cannot_be_connected) {
    plan p = of(RANDOM, 60, 0, 0.01, 3);
    weft_graph g;
    void *memory;
    ck_assert_int_eq(construct(&g, &p, NULL, 0), WEFT_OK);
    memory = room(g.bytes);
    ck_assert_int_eq(construct(&g, &p, memory, g.bytes), WEFT_ERR_ARGUMENT);
    refused(&g, WEFT_ERR_ARGUMENT, "no connected draw", 1, WEFT_GRAPH_DRAWS);
    free(memory);
    memory = make(&g, of(RANDOM, 1, 0, 0.01, 3)); /* nobody to be connected with */
    ck_assert_uint_eq(g.workers, 1);
    free(memory);
}
END_TEST

/* More edges than there is room for, which no seed has shown yet: the draw is thrown away before it is written. */
START_TEST(erdos_renyi_beyond_its_bound) {
    uint32_t memory[2 * 31 + 2 * 200 + 16], i;
    weft_graph_arrays room_for;
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_RANDOM, 30, 0);
    weft_graph g;
    memset(memory, 0xEE, sizeof memory);
    memset(&g, 0, sizeof g);
    p.threshold = weft_graph_threshold(0.6);
    p.most = 200;
    room_for.offset = memory;
    room_for.upper = memory + 31;
    room_for.neighbour = memory + 62;
    ck_assert_int_eq(weft_graph_build(&g, &p, &room_for), WEFT_AGAIN);
    for (i = 62; i < sizeof memory / sizeof memory[0]; i++) ck_assert_uint_eq(memory[i], 0xEEEEEEEEu);
    ck_assert_uint_eq(g.workers, 0);
    p.threshold = weft_graph_threshold(0.4);
    ck_assert_int_eq(weft_graph_build(&g, &p, &room_for), WEFT_OK);
    ck_assert_uint_eq(g.workers, 30);
}
END_TEST

/* The bound: above the mean by 10 times its root and some, and not by much more. */
START_TEST(erdos_renyi_has_room) {
    static const uint32_t size[] = {2, 3, 10, 100, 1000, 10000, 50000};
    static const double chance[] = {1e-6, 1e-3, 0.01, 0.1, 0.25, 0.5, 0.9, 1};
    size_t i, k;
    for (i = 0; i < sizeof size / sizeof size[0]; i++)
        for (k = 0; k < sizeof chance / sizeof chance[0]; k++) {
            double pairs = 0.5 * size[i] * (size[i] - 1.0), mean = pairs * chance[k], most, least;
            weft_graph g;
            if (8 * mean > (double)SIZE_MAX) {
                ck_assert_int_eq(weft_graph_erdos_renyi(&g, size[i], chance[k], 0, NULL, 0), WEFT_ERR_OVERFLOW);
                continue;
            }
            ck_assert_int_eq(weft_graph_erdos_renyi(&g, size[i], chance[k], 0, NULL, 0), WEFT_OK);
            most = ((double)g.bytes - (double)WEFT_GRAPH_BYTES(size[i], 0)) / 8;
            least = fmin(pairs, mean + 10 * sqrt(mean) + 32);
            ck_assert_double_ge(most, least - 1e-6 * least);
            ck_assert_double_le(most, fmin(pairs, mean + 10 * sqrt(mean) + 80));
        }
}
END_TEST

/* Counts over many seeds: each pair as often as it should be, and edges spread as they should be. */
START_TEST(erdos_renyi_has_its_probability) {
    enum { N = 40, SEEDS = 1000 };
    static const double chance[] = {0.25, 0.5, 0.9, 1};
    static uint32_t often[N][N];
    double p = chance[_i], sum = 0, squares = 0, pairs = N * (N - 1) / 2, mean, variance;
    double sigma = sqrt(SEEDS * p * (1 - p)), worst = 0;
    uint32_t i, j;
    uint64_t seed;
    memset(often, 0, sizeof often);
    for (seed = 0; seed < SEEDS; seed++) {
        weft_graph g;
        void *memory = make(&g, of(RANDOM, N, 0, p, seed));
        for (i = 0; i < N; i++)
            for (j = i + 1; j < N; j++) often[i][j] += (uint32_t)weft_graph_has_edge(&g, i, j);
        sum += g.edges;
        squares += (double)g.edges * g.edges;
        free(memory);
    }
    mean = sum / SEEDS;
    variance = squares / SEEDS - mean * mean;
    for (i = 0; i < N; i++)
        for (j = i + 1; j < N; j++) worst = fmax(worst, fabs(often[i][j] - SEEDS * p));
    ck_assert_double_le(fabs(mean - pairs * p), 4 * sqrt(pairs * p * (1 - p) / SEEDS));
    ck_assert_double_le(worst, 5 * sigma); /* of 780 */
    ck_assert_double_le(fabs(variance - pairs * p * (1 - p)), 0.25 * pairs * p * (1 - p));
}
END_TEST

/* Equal seeds, equal graphs, whatever stood in the memory; other seeds, other graphs. */
START_TEST(seeds_make_the_graph) {
    uint64_t seed, h, last = 0;
    for (seed = 0; seed < 200; seed++) {
        plan p = _i ? of(SMALL_WORLD, 30, 4, 0.3, seed) : of(RANDOM, 30, 0, 0.3, seed);
        weft_graph g;
        unsigned char *memory;
        int i;
        construct(&g, &p, NULL, 0);
        memory = (unsigned char *)room(g.bytes + 64);
        for (i = 0; i < 3; i++) {
            memset(memory, i * 85, g.bytes + 64);
            ck_assert_int_eq(construct(&g, &p, memory + i, g.bytes + (i == 2 ? 60 : 0)), WEFT_OK);
            h = weft_graph_hash(&g);
            if (i) ck_assert_uint_eq(h, last);
            if (!i && seed) ck_assert_uint_ne(h, last);
            last = h;
        }
        free(memory);
    }
}
END_TEST

/* The same on every machine and from every compiler: numbers of one of them. */
START_TEST(graphs_that_are_known) {
    static const struct {
        kind kind;
        uint32_t n, m;
        double p;
        uint64_t seed, hash;
    } known[] = {{RANDOM, 32, 0, 0.25, 1, UINT64_C(0xD8834220E3FC64B3)},
                 {RANDOM, 200, 0, 0.05, 2, UINT64_C(0xFC227FE44AD25DF9)},
                 {SMALL_WORLD, 64, 6, 0.2, 3, UINT64_C(0x6EDC7545C0B1B2B5)},
                 {SMALL_WORLD, 500, 2, 0.01, 4, UINT64_C(0x3036ADC45DC45EE8)},
                 {EXPONENTIAL, 100, 0, 0, 0, UINT64_C(0x85D97E39E7B90CD5)}};
    size_t i;
    for (i = 0; i < sizeof known / sizeof known[0]; i++) {
        weft_graph g;
        void *memory = make(&g, of(known[i].kind, known[i].n, known[i].m, known[i].p, known[i].seed));
        ck_assert_uint_eq(weft_graph_hash(&g), known[i].hash);
        free(memory);
    }
}
END_TEST

START_TEST(small_worlds) {
    static matrix a;
    uint32_t label[MOST], i, j;
    uint64_t seed, edges = 0, stayed = 0;
    const double rewire = 0.25 * _i;
    for (seed = 0; seed < 300; seed++) {
        uint32_t n = 3 + (uint32_t)(seed % 60), half = 1 + (uint32_t)(seed / 7) % 4;
        plan p = of(SMALL_WORLD, n, 2 * half, rewire, seed);
        weft_graph g;
        void *memory;
        if (2 * half >= n) continue;
        memory = make(&g, p);
        ck_assert_uint_eq(g.edges, n * half); /* none lost, none twice, none to itself */
        ck_assert_uint_eq(g.bytes, WEFT_GRAPH_BYTES(n, n * half));
        ck_assert_uint_ge(g.least_degree, half); /* first ends stay */
        read_back(&a, &g);
        agrees(&g, &a);
        for (i = 0; i < n; i++) {
            ck_assert_int_eq(a.at[i][i], 0);
            for (j = 0; j < i; j++)
                if (n > 8 * half) stayed += a.at[i][j] && defined(&p, n, i, j);
        }
        if (n > 8 * half) edges += g.edges;
        ck_assert_uint_eq(parts_of(&a, NULL, label), 1);
        if (_i == 0) {
            define(&a, &p, n);
            agrees(&g, &a);
        }
        free(memory);
    }
    /* Of those that go, some few land on a place that another one has left. */
    ck_assert_uint_gt(edges, 5000);
    if (_i == 0) ck_assert_uint_eq(stayed, edges);
    ck_assert_double_ge((double)stayed / (double)edges, 1 - rewire - 0.03);
    ck_assert_double_le((double)stayed / (double)edges, 1 - rewire + 0.06 + 0.12 * rewire);
}
END_TEST

/* Nearly complete: there is nowhere to go for most edges. */
START_TEST(small_worlds_without_room) {
    uint32_t n;
    for (n = 3; n < 20; n++) {
        weft_graph g;
        uint32_t degree = (n - 1) / 2 * 2;
        void *memory = make(&g, of(SMALL_WORLD, n, degree, 1, n));
        ck_assert_uint_eq(g.edges, n * degree / 2);
        free(memory);
    }
}
END_TEST

/* A ring of two neighbours each, all rewired: most draws are in parts, and the first that is not is taken. */
START_TEST(small_worlds_are_drawn_until_connected) {
    static matrix a;
    uint32_t label[MOST], to[MOST], again = 0, n, i, k;
    for (n = 8; n <= MOST; n++) {
        weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_SMALL_WORLD, n, 1);
        weft_graph g;
        void *memory = make(&g, of(SMALL_WORLD, n, 2, 1, n));
        p.threshold = weft_graph_threshold(1);
        for (k = 0;; k++) {
            memset(&a, 0, sizeof a);
            a.n = n;
            p.key = coin(n, k);
            weft_graph_rewire(&p, to);
            for (i = 0; i < n; i++) {
                ck_assert_uint_lt(to[i], n);
                ck_assert_uint_ne(to[i], i);
                a.at[i][to[i]] = a.at[to[i]][i] = 1;
            }
            if (parts_of(&a, NULL, label) == 1) break;
            again++;
        }
        agrees(&g, &a);
        free(memory);
    }
    ck_assert_uint_gt(again, 20);
}
END_TEST

START_TEST(one_peer_is_a_matching) {
    uint32_t n, i, k;
    for (n = 1; n <= 70; n++) {
        uint32_t phases = 0, idle[70], z;
        uint64_t t, rounds;
        weft_graph g;
        void *memory = make(&g, of(EXPONENTIAL, n, 0, 0, 0));
        while (1u << phases < n) phases++;
        memset(idle, 0, sizeof idle);
        rounds = (uint64_t)n * (phases ? phases : 1);
        for (t = 0; t < rounds; t++) {
            uint32_t alone = 0;
            k = phases ? (uint32_t)(t % phases) : 0;
            for (i = 0; i < n; i++) {
                uint32_t j = weft_graph_one_peer(n, t, i), step;
                need(j < n);
                need(weft_graph_one_peer(n, t, j) == i);
                if (j == i) {
                    alone++;
                    idle[i]++;
                    continue;
                }
                need(weft_graph_has_edge(&g, i, j));
                step = 1u << k;
                need((i + step) % n == j || (j + step) % n == i);
            }
            /* one is left over in every circle of odd length */
            for (z = 0; phases && z < k && n % (2u << z) == 0; z++) continue;
            need(alone == ((n >> z) % 2 ? 1u << z : 0));
        }
        for (i = 1; i < n; i++) need(idle[i] == idle[0]); /* everybody's turn comes */
        free(memory);
    }
}
END_TEST

START_TEST(one_peer_with_many_workers) {
    static const uint32_t size[] = {4000000007u, 4294967294u, 3221225472u, 2147483648u, 2147483649u};
    size_t s;
    uint32_t i;
    begin(17);
    for (s = 0; s < sizeof size / sizeof size[0]; s++)
        for (i = 0; i < 20000; i++) {
            uint32_t me = i < 4 ? size[s] - 1 - i : below(size[s]), n = size[s], peer;
            uint64_t t = draw() >> below(64), step = UINT64_C(1) << t % weft_graph_log2(n);
            peer = weft_graph_one_peer(n, t, me);
            need(peer < n && weft_graph_one_peer(n, t, peer) == me);
            need(peer == me || (me + step) % n == peer || (peer + step) % n == me);
        }
    for (i = 0; i < 2000; i++) { /* where sums of 32 bits would go over */
        uint32_t n = size[0], me = 0u - n + i % 8 - 4, peer;
        uint64_t t = (uint64_t)below(n) * weft_graph_log2(n);
        peer = weft_graph_one_peer(n, t, me);
        need(peer < n && weft_graph_one_peer(n, t, peer) == me);
    }
}
END_TEST

static double spread(const double *x, uint32_t n) {
    double mean = 0, s = 0;
    uint32_t i;
    for (i = 0; i < n; i++) mean += x[i] / n;
    for (i = 0; i < n; i++) s += (x[i] - mean) * (x[i] - mean);
    return sqrt(s);
}

START_TEST(one_peer_forms_the_mean) {
    uint32_t n, i;
    begin(18);
    for (n = 1; n <= 70; n++) {
        double x[70], y[70], first;
        uint32_t phases = weft_graph_log2(n);
        uint64_t t, start = below(1000), rounds = power_of_two(n) ? phases : 8 * phases;
        for (i = 0; i < n; i++) x[i] = unit() - 0.5;
        first = spread(x, n);
        for (t = start; t < start + rounds; t++) {
            for (i = 0; i < n; i++) y[i] = 0.5 * (x[i] + x[weft_graph_one_peer(n, t, i)]);
            memcpy(x, y, sizeof x);
        }
        ck_assert_double_le(spread(x, n), (power_of_two(n) ? 1e-15 : 1e-3) * first);
    }
}
END_TEST

/* ---- weights ---- */

typedef struct own_weights {
    double w[MOST][MOST];
    int calls;
} own_weights;

static double own_weight(void *ctx, uint32_t i, uint32_t j) {
    own_weights *o = (own_weights *)ctx;
    o->calls++;
    return o->w[i][j];
}

/* A sum to twice the digits of a double. */
typedef struct pair {
    double high, low;
} pair;

static void add(pair *s, double v) {
    double sum = s->high + v, part = sum - s->high;
    s->low += (s->high - (sum - part)) + (v - part);
    s->high = sum;
}

/* The matrix by the rule's definition. */
static void dense(double w[MOST][MOST], const matrix *a, weft_mixing_rule rule, const unsigned char *present) {
    uint32_t i, j, degree[MOST], whole[MOST], most = 0;
    memset(w, 0, MOST * sizeof w[0]);
    for (i = 0; i < a->n; i++) {
        for (j = degree[i] = whole[i] = 0; j < a->n; j++) {
            whole[i] += a->at[i][j];
            if (!present || present[j]) degree[i] += a->at[i][j];
        }
        if (whole[i] > most) most = whole[i];
    }
    for (i = 0; i < a->n; i++) {
        w[i][i] = 1;
        for (j = 0; j < a->n; j++) {
            if (!a->at[i][j] || (present && (!present[i] || !present[j]))) continue;
            w[i][j] = rule == WEFT_UNIFORM ? 1.0 / (1 + most) : 1.0 / (1 + fmax(degree[i], degree[j]));
            w[i][i] -= w[i][j];
        }
    }
}

/* Over random graphs and random losses: the definition, symmetry, and rows that add up, both by row and one by one. */
START_TEST(weights_are_doubly_stochastic) {
    static matrix a;
    static double w[MOST][MOST], row[MOST];
    unsigned char present[MOST];
    const weft_mixing_rule rule = _i ? WEFT_UNIFORM : WEFT_METROPOLIS;
    int round, lost = 0;
    begin(20 + (uint64_t)_i);
    for (round = 0; round < 600; round++) {
        uint32_t i, j, k;
        weft_mixing m;
        weft_graph g;
        void *memory = any_graph(&g, 1 + below(MOST), unit() * unit(), &a);
        memset(&m, 0, sizeof m);
        m.rule = rule;
        if (below(4)) {
            some_present(present, a.n);
            m.present = present;
        }
        dense(w, &a, rule, m.present);
        for (i = 0; i < a.n; i++) {
            double own;
            pair sum = {0, 0}, column = {0, 0};
            memset(row, 0x7F, sizeof row);
            own = weft_graph_row(&g, &m, i, row);
            need(fabs(own - w[i][i]) <= 1e-14);
            need(own >= 1.0 / (1 + g.most_degree) - 1e-15); /* nobody gives itself up */
            need(own == weft_graph_weight(&g, &m, i, i));
            for (j = k = 0; j < a.n; j++) {
                double v = weft_graph_weight(&g, &m, i, j);
                need(v == weft_graph_weight(&g, &m, j, i) || i == j);
                if (j == i) continue;
                add(&column, weft_graph_weight(&g, &m, j, i));
                need(v == w[i][j]);
                if (a.at[i][j]) {
                    need(row[k] == v);
                    add(&sum, row[k++]);
                }
            }
            add(&sum, own);
            add(&column, own);
            need(fabs((sum.high - 1) + sum.low) <= 1.2e-16); /* the sum itself, not its roundings */
            need(fabs((column.high - 1) + column.low) <= 1.2e-16);
            if (m.present && !present[i]) {
                need(own == 1 && sum.high == 1);
                lost++;
            }
        }
        if (rule == WEFT_METROPOLIS && !m.present) { /* NULL stands for this */
            need(weft_graph_row(&g, NULL, 0, row) == weft_graph_row(&g, &m, 0, NULL));
            need(weft_graph_weight(&g, NULL, 0, a.n - 1) == w[0][a.n - 1] || a.n == 1);
        }
        free(memory);
    }
    ck_assert_int_gt(lost, 1000);
}
END_TEST

/* Rows of thousands: the sum is compensated, so any order adds up. */
START_TEST(long_rows_add_up) {
    static const uint32_t size[] = {3, 10, 49, 999, 4999, 10000};
    static double row[10000];
    size_t s;
    for (s = 0; s < sizeof size / sizeof size[0]; s++) {
        uint32_t n = size[s], k;
        weft_graph g;
        void *memory = make(&g, of(STAR, n, 0, 0, 0));
        double own = weft_graph_row(&g, NULL, 0, row);
        pair sum = {0, 0};
        add(&sum, own);
        for (k = 0; k + 1 < n; k++) add(&sum, row[k]);
        ck_assert_double_le(fabs((sum.high - 1) + sum.low), 1.2e-16);
        ck_assert_double_le(fabs(own - 1.0 / n), 2e-16);
        ck_assert_double_eq(row[0], 1.0 / n);
        ck_assert_double_eq(weft_graph_weight(&g, NULL, 1, 1), 1 - 1.0 / n);
        free(memory);
    }
}
END_TEST

START_TEST(weights_of_the_host) {
    static own_weights o;
    unsigned char present[4] = {1, 0, 1, 1};
    double row[4];
    weft_mixing m;
    weft_graph g;
    void *memory = make(&g, of(RING, 4, 0, 0, 0));
    uint32_t i, j;
    memset(&m, 0, sizeof m);
    m.rule = WEFT_OWN_WEIGHTS;
    m.weight = own_weight;
    m.ctx = &o;
    for (i = 0; i < 4; i++)
        for (j = 0; j < 4; j++) o.w[i][j] = 10 * i + j;
    ck_assert_double_eq(weft_graph_weight(&g, &m, 2, 1), 21);
    ck_assert_double_eq(weft_graph_weight(&g, &m, 2, 2), 22);
    ck_assert_double_eq(weft_graph_weight(&g, &m, 2, 0), 0); /* no edge: not asked */
    ck_assert_int_eq(o.calls, 2 + 2);
    ck_assert_double_eq(weft_graph_row(&g, &m, 3, row), 33);
    ck_assert(row[0] == 30 && row[1] == 32);
    m.present = present;
    ck_assert_double_eq(weft_graph_row(&g, &m, 2, row), 22);
    ck_assert(row[0] == 0 && row[1] == 23);
    ck_assert_double_eq(weft_graph_row(&g, &m, 1, row), 1);
    ck_assert(row[0] == 0 && row[1] == 0);
    ck_assert_double_eq(weft_graph_weight(&g, &m, 1, 2), 0);
    ck_assert_double_eq(weft_graph_weight(&g, &m, 2, 1), 0);
    free(memory);
}
END_TEST

START_TEST(rounds_to_a_factor) {
    static const double gap[] = {1, 0.999, 0.9, 0.75, 0.5, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5, 1e-6};
    static const double factor[] = {0.999, 0.5, 0.1, 1e-3, 1e-6, 1e-12, 1e-300};
    size_t i, k;
    double tiny;
    for (i = 0; i < sizeof gap / sizeof gap[0]; i++)
        for (k = 0; k < sizeof factor / sizeof factor[0]; k++) {
            uint64_t t = weft_graph_rounds(gap[i], factor[k]);
            double exact = gap[i] < 1 ? log(factor[k]) / log1p(-gap[i]) : 0;
            ck_assert_double_ge((double)t, exact - 1e-3 - 1e-9 * exact);
            ck_assert_double_le((double)t, fmax(exact, 0) + 1 + 1e-3 + 1e-9 * exact);
            ck_assert_uint_ge(t, 1);
        }
    for (tiny = 1e-6; tiny >= 1e-12; tiny /= 10)
        ck_assert_double_eq_tol((double)weft_graph_rounds(tiny, 1e-3) * tiny / -log(1e-3), 1, 1e-4);
    ck_assert_uint_eq(weft_graph_rounds(0.5, 0.25), 2); /* exact powers: no round too many */
    ck_assert_uint_eq(weft_graph_rounds(0.5, 0.125), 3);
    ck_assert_uint_eq(weft_graph_rounds(0.75, 0.0625), 2);
    ck_assert_uint_eq(weft_graph_rounds(0.5, 0.1249), 4);
    ck_assert_uint_eq(weft_graph_rounds(1.5, 0.1), 1);
    ck_assert_uint_eq(weft_graph_rounds(0.5, 1), 0);
    ck_assert_uint_eq(weft_graph_rounds(0, 1), 0);
    ck_assert_uint_eq(weft_graph_rounds(0, 0.5), UINT64_MAX);
    ck_assert_uint_eq(weft_graph_rounds(-0.1, 0.5), UINT64_MAX);
    ck_assert_uint_eq(weft_graph_rounds(sqrt(-1.0), 0.5), UINT64_MAX);
    ck_assert_uint_eq(weft_graph_rounds(0.5, 0), UINT64_MAX);
    ck_assert_uint_eq(weft_graph_rounds(0.5, -1), UINT64_MAX);
    ck_assert_uint_eq(weft_graph_rounds(1e-17, 0.5), UINT64_MAX); /* 1 - gap is 1 */
}
END_TEST

/* ---- the doctor ---- */

static void see(const weft_graph *g, const weft_mixing *m, weft_doctor_report *r) {
    void *memory;
    ck_assert_int_eq(weft_graph_doctor(g, m, NULL, 0, r), WEFT_OK);
    memory = room(r->bytes);
    ck_assert_int_eq(weft_graph_doctor(g, m, memory, r->bytes, r), WEFT_OK);
    ck_assert_int_eq(r->detail.status, WEFT_OK);
    ck_assert_ptr_nonnull(r->text);
    ck_assert_uint_gt(strlen(r->text), 10);
    free(memory);
}

static const double pi = 3.14159265358979323846;

/* The gap of weights w on every edge of a graph whose Laplacian has these eigenvalues, 0 left out. */
static double gap_of(const double *laplacian, uint32_t count, double w) {
    double worst = 0;
    uint32_t i;
    for (i = 0; i < count; i++) worst = fmax(worst, fabs(1 - w * laplacian[i]));
    return 1 - worst;
}

/* 1 - cos without what cancels. */
static double versine(double x) { return 2 * sin(x / 2) * sin(x / 2); }

static void gap_is(plan p, double gap, double tolerance) {
    weft_doctor_report r;
    weft_graph g;
    void *memory = make(&g, p);
    see(&g, NULL, &r);
    ck_assert_uint_eq(r.present, g.workers);
    ck_assert_uint_eq(r.parts, 1);
    ck_assert_uint_eq(r.least_degree, g.least_degree);
    ck_assert_uint_eq(r.most_degree, g.most_degree);
    ck_assert_double_eq_tol(r.gap, gap, tolerance);
    ck_assert_double_le(r.accuracy, 1e-12);
    ck_assert_double_eq(r.asymmetry, 0);
    ck_assert_double_le(r.row_error, 1e-15);
    ck_assert_uint_eq(r.rounds, weft_graph_rounds(r.gap, 1e-3));
    free(memory);
}

START_TEST(gaps_of_closed_form) {
    static double l[MOST * MOST];
    uint32_t n, m, k, j;
    for (n = 3; n <= 200; n += n < 20 ? 1 : 23) { /* edges of a ring and of a chain have 1/3 */
        for (k = 1; k < n; k++) l[k - 1] = 2 * versine(2 * pi * k / n);
        gap_is(of(RING, n, 0, 0, 0), gap_of(l, n - 1, 1.0 / 3), 1e-13);
        for (k = 1; k < n; k++) l[k - 1] = 2 * versine(pi * k / n);
        gap_is(of(CHAIN, n, 0, 0, 0), gap_of(l, n - 1, 1.0 / 3), 1e-13);
        gap_is(of(STAR, n, 0, 0, 0), 1.0 / n, 1e-13);
        gap_is(of(COMPLETE, n, 0, 0, 0), 1, 1e-13);
        for (k = 1; k < n; k++) { /* circulant: the steps that are powers of two, back and forth, each once */
            unsigned char step[200];
            uint32_t degree = 0;
            memset(step, 0, sizeof step);
            for (j = 1; j < n; j *= 2) step[j] = step[n - j] = 1;
            l[k - 1] = 0;
            for (j = 1; j < n; j++)
                if (step[j]) l[k - 1] += versine(2 * pi * k * j / n);
            for (j = 1; j < n; j++) degree += step[j];
            l[k - 1] /= 1 + degree;
        }
        gap_is(of(EXPONENTIAL, n, 0, 0, 0), gap_of(l, n - 1, 1), 1e-13);
    }
    for (n = 3; n <= 12; n++)
        for (m = 3; m <= 12; m += 3) {
            for (k = 1; k < n * m; k++)
                l[k - 1] = 2 * versine(2 * pi * (k / m) / n) + 2 * versine(2 * pi * (k % m) / m);
            gap_is(of(TORUS, n, m, 0, 0), gap_of(l, n * m - 1, 0.2), 1e-13);
        }
    for (n = 1; n <= 12; n++) { /* eigenvalues 1 - 2 k / (n + 1) */
        for (k = 1; k <= n; k++) l[k - 1] = 2 * k;
        gap_is(of(HYPERCUBE, n, 0, 0, 0), gap_of(l, n, 1.0 / (n + 1)), 1e-13);
    }
    gap_is(of(RING, 1, 0, 0, 0), 1, 1e-15);
    gap_is(of(RING, 2, 0, 0, 0), 1, 1e-15);
}
END_TEST

/* Where the power iteration would take millions of steps. */
START_TEST(gaps_of_large_graphs) {
    double exact = 2.0 / 3 * versine(2 * pi / 10000);
    gap_is(of(RING, 10000, 0, 0, 0), exact, 1e-6 * exact);
    exact = 2.0 / 5 * versine(2 * pi / 100);
    gap_is(of(TORUS, 100, 100, 0, 0), exact, 1e-9 * exact);
    exact = 2.0 / 3 * versine(pi / 3000);
    gap_is(of(CHAIN, 3000, 0, 0, 0), exact, 1e-6 * exact);
    gap_is(of(STAR, 10000, 0, 0, 0), 1e-4, 1e-12);
    gap_is(of(HYPERCUBE, 13, 0, 0, 0), 2.0 / 14, 1e-12);
}
END_TEST

/* All eigenvalues of a symmetric matrix: Jacobi's rotations. */
static void jacobi(double w[MOST][MOST], uint32_t n, double *value) {
    uint32_t i, j, k;
    int sweep;
    for (sweep = 0; sweep < 60; sweep++) {
        double off = 0;
        for (i = 0; i < n; i++)
            for (j = 0; j < i; j++) off += w[i][j] * w[i][j];
        if (off < 1e-28) break;
        for (i = 0; i < n; i++)
            for (j = i + 1; j < n; j++) {
                double theta, t, c, s;
                if (w[i][j] == 0) continue;
                theta = (w[j][j] - w[i][i]) / (2 * w[i][j]);
                t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(1 + theta * theta));
                c = 1 / sqrt(1 + t * t);
                s = t * c;
                for (k = 0; k < n; k++) {
                    double a = w[k][i], b = w[k][j];
                    w[k][i] = c * a - s * b;
                    w[k][j] = s * a + c * b;
                }
                for (k = 0; k < n; k++) {
                    double a = w[i][k], b = w[j][k];
                    w[i][k] = c * a - s * b;
                    w[j][k] = s * a + c * b;
                }
            }
    }
    ck_assert_int_lt(sweep, 60);
    for (i = 0; i < n; i++) value[i] = w[i][i];
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Graphs of any kind, weights of any rule (the host's own among them, with eigenvalues down to -1), anybody lost: gap,
 * extremes, and diameter as found by brute force; and what the prediction says comes true. */
START_TEST(the_doctor_against_brute_force) {
    static matrix a;
    static double w[MOST][MOST], copy[MOST][MOST];
    static own_weights o;
    unsigned char present[MOST];
    int round, negative = 0, apart = 0, whole = 0;
    begin(30 + (uint64_t)_i);
    for (round = 0; round < 250; round++) {
        uint32_t i, j, k, n, live, far = 0, distance[MOST][MOST], who[MOST], label[MOST];
        double value[MOST], worst, x[MOST], y[MOST], first;
        uint64_t t;
        weft_doctor_report r;
        weft_mixing m;
        weft_graph g;
        void *memory;
        int ring = _i == 2 && below(3) == 0; /* the most negative eigenvalues */
        if (ring) {
            memory = make(&g, of(RING, 3 + below(20), 0, 0, 0));
            read_back(&a, &g);
        } else {
            memory = any_graph(&g, 2 + below(MOST - 2), 0.4 * unit() * unit(), &a);
        }
        n = a.n;
        memset(&m, 0, sizeof m);
        m.rule = (weft_mixing_rule)_i;
        m.weight = own_weight;
        m.ctx = &o;
        if (below(3) == 0 && some_present(present, n)) m.present = present;
        if (_i == 2) { /* any symmetric weights that leave something for oneself, or nothing at all */
            double scale = below(4) ? unit() : 1;
            memset(o.w, 0, sizeof o.w);
            for (i = 0; i < n; i++) o.w[i][i] = 1;
            for (i = 0; i < n; i++)
                for (j = 0; j < i; j++)
                    if (a.at[i][j] && (!m.present || (present[i] && present[j]))) {
                        double v = ring ? 0.5 * scale : fmin(o.w[i][i], o.w[j][j]) * scale * (below(3) ? 1 : 0.5);
                        o.w[i][j] = o.w[j][i] = v;
                        o.w[i][i] -= v;
                        o.w[j][j] -= v;
                    }
            memcpy(w, o.w, sizeof w);
        } else {
            dense(w, &a, m.rule, m.present);
        }
        see(&g, &m, &r);
        for (i = live = 0; i < n; i++)
            if (!m.present || present[i]) who[live++] = i;
        ck_assert_uint_eq(r.present, live);
        ck_assert_uint_eq(r.parts, parts_of(&a, m.present, label));
        ck_assert_double_le(r.row_error, 1e-14);
        if (r.parts > 1) {
            apart++;
            ck_assert_int_eq(r.verdict, WEFT_GRAPH_PARTED);
            ck_assert_double_eq(r.gap, 0);
            ck_assert_uint_eq(r.rounds, UINT64_MAX);
            for (i = 0; label[who[i]] == who[0]; i++) continue;
            ck_assert_uint_eq(r.worst, who[i]);
            free(memory);
            continue;
        }
        whole++;
        /* eigenvalues, with that of the mean moved out of the way, to 0 */
        for (i = 0; i < live; i++)
            for (j = 0; j < live; j++) copy[i][j] = w[who[i]][who[j]] - 1.0 / live;
        jacobi(copy, live, value);
        qsort(value, live, sizeof value[0], ascending);
        worst = live > 1 ? fmax(fabs(value[0]), fabs(value[live - 1])) : 0;
        ck_assert_double_eq_tol(r.gap, 1 - worst > 1e-12 ? 1 - worst : 0, 2e-12);
        negative += live > 1 && -value[0] > value[live - 1] + 1e-9;
        if (live > 2 && worst > 1e-9) ck_assert_double_eq_tol(fmax(r.highest, -r.lowest), worst, 2e-12);
        /* distances */
        for (i = 0; i < live; i++)
            for (j = 0; j < live; j++) distance[i][j] = i == j ? 0 : a.at[who[i]][who[j]] ? 1 : 1000;
        for (k = 0; k < live; k++)
            for (i = 0; i < live; i++)
                for (j = 0; j < live; j++)
                    if (distance[i][k] + distance[k][j] < distance[i][j])
                        distance[i][j] = distance[i][k] + distance[k][j];
        for (i = 0; i < live; i++)
            for (j = 0; j < live; j++) far = distance[i][j] > far ? distance[i][j] : far;
        ck_assert_uint_le(r.diameter_least, far);
        ck_assert_uint_ge(r.diameter_most, far);
        /* the prediction */
        if (r.rounds < 20000) {
            for (i = 0; i < live; i++) x[i] = unit();
            first = spread(x, live);
            for (t = 0; t < r.rounds; t++) {
                for (i = 0; i < live; i++)
                    for (j = 0, y[i] = 0; j < live; j++) y[i] += w[who[i]][who[j]] * x[j];
                memcpy(x, y, sizeof x);
            }
            ck_assert_double_le(spread(x, live), 1.0001e-3 * first + 1e-15);
        } else {
            ck_assert_int_gt(r.verdict, 0);
        }
        free(memory);
    }
    ck_assert_int_gt(whole, 100);
    ck_assert_int_gt(apart, 5);
    if (_i == 2) ck_assert_int_gt(negative, 20);
}
END_TEST

/* The same numbers wherever the memory lies and whatever stood there, in exactly the bytes asked for. */
START_TEST(the_doctor_repeats_itself) {
    weft_doctor_report first, r;
    weft_graph g;
    void *memory = make(&g, of(SMALL_WORLD, 300, 6, 0.1, 9));
    unsigned char *m;
    size_t shift, bytes, i;
    ck_assert_int_eq(weft_graph_doctor(&g, NULL, NULL, 0, &first), WEFT_OK);
    bytes = first.bytes;
    m = (unsigned char *)room(bytes + 160);
    memset(&first, 0, sizeof first);
    for (shift = 0; shift < 64; shift += 7) {
        memset(m, (int)(shift * 31), bytes + 160);
        ck_assert_int_eq(weft_graph_doctor(&g, NULL, m + 40 + shift, bytes, &r), WEFT_OK);
        for (i = 0; i < 40 + shift; i++) need(m[i] == (unsigned char)(shift * 31));
        for (i = 40 + shift + bytes; i < bytes + 160; i++) need(m[i] == (unsigned char)(shift * 31));
        if (shift == 0) first = r;
        ck_assert_uint_eq(bits(r.gap), UINT64_C(4583536607891417472)); /* from any compiler, on any machine */
        ck_assert(bits(r.gap) == bits(first.gap) && bits(r.accuracy) == bits(first.accuracy));
        ck_assert(bits(r.highest) == bits(first.highest) && bits(r.lowest) == bits(first.lowest));
        ck_assert(r.steps == first.steps && r.rounds == first.rounds && r.verdict == first.verdict);
    }
    ck_assert_int_eq(weft_graph_doctor(&g, NULL, m, bytes - 1, &r), WEFT_ERR_MEMORY);
    ck_assert(r.detail.expected == bytes && r.detail.got == bytes - 1 && strstr(r.detail.field, "bytes"));
    ck_assert_uint_eq(r.bytes, bytes);
    ck_assert_ptr_nonnull(r.text);
    ck_assert_int_eq(weft_graph_doctor(&g, NULL, NULL, bytes, &r), WEFT_ERR_ARGUMENT);
    ck_assert(strstr(r.detail.field, "memory") && r.detail.expected == bytes);
    free(m);
    free(memory);
}
END_TEST

START_TEST(what_the_doctor_does_not_look_at) {
    unsigned char memory[4096], nobody[5] = {0, 0, 0, 0, 0};
    weft_doctor_report r;
    weft_mixing m;
    weft_graph g, none;
    void *mine = make(&g, of(RING, 5, 0, 0, 0));
    memset(&m, 0, sizeof m);
    memset(&none, 0, sizeof none);
    ck_assert_int_eq(weft_graph_doctor(&g, NULL, memory, sizeof memory, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(weft_graph_doctor(NULL, NULL, memory, sizeof memory, &r), WEFT_ERR_ARGUMENT);
    ck_assert(strstr(r.detail.field, "graph"));
    ck_assert_int_eq(weft_graph_doctor(&none, NULL, memory, sizeof memory, &r), WEFT_ERR_ABI);
    none.struct_size = sizeof none;
    ck_assert_int_eq(weft_graph_doctor(&none, NULL, memory, sizeof memory, &r), WEFT_ERR_ARGUMENT);
    ck_assert(strstr(r.detail.field, "not made") && r.detail.expected == 1 && r.detail.got == 0);
    m.rule = (weft_mixing_rule)3;
    ck_assert_int_eq(weft_graph_doctor(&g, &m, memory, sizeof memory, &r), WEFT_ERR_ARGUMENT);
    ck_assert(strstr(r.detail.field, "rule") && r.detail.expected == 2 && r.detail.got == 3);
    m.rule = WEFT_OWN_WEIGHTS;
    ck_assert_int_eq(weft_graph_doctor(&g, &m, memory, sizeof memory, &r), WEFT_ERR_ARGUMENT);
    ck_assert(strstr(r.detail.field, "mixing.weight"));
    m.rule = WEFT_METROPOLIS;
    m.present = nobody;
    ck_assert_int_eq(weft_graph_doctor(&g, &m, memory, sizeof memory, &r), WEFT_ERR_ARGUMENT);
    ck_assert(strstr(r.detail.field, "present"));
    free(mine);
}
END_TEST

static void set_ring(own_weights *o, uint32_t n, double edge, double self) {
    uint32_t i;
    memset(o, 0, sizeof *o);
    for (i = 0; i < n; i++) {
        o->w[i][(i + 1) % n] = o->w[(i + 1) % n][i] = edge;
        o->w[i][i] = self;
    }
}

static void verdict_is(const weft_graph *g, const weft_mixing *m, weft_graph_verdict v, uint32_t worst,
                       const char *word) {
    weft_doctor_report r;
    see(g, m, &r);
    ck_assert_int_eq(r.verdict, v);
    ck_assert_uint_eq(r.worst, worst);
    ck_assert_msg(strstr(r.text, word) != NULL, "\"%s\" does not say %s", r.text, word);
    if (v != WEFT_GRAPH_SOUND && v < WEFT_GRAPH_SLOW) {
        ck_assert_double_eq(r.gap, 0);
        ck_assert_uint_eq(r.rounds, UINT64_MAX);
    } else {
        ck_assert_double_gt(r.gap, 0);
    }
}

START_TEST(every_verdict) {
    static own_weights o;
    unsigned char present[40];
    weft_edge star[19];
    const uint32_t none = WEFT_NO_RANK;
    weft_mixing m, mine;
    weft_graph g, ring;
    void *memory = make(&ring, of(RING, 8, 0, 0, 0)), *other;
    int v, u;
    memset(&m, 0, sizeof m);
    mine = m;
    mine.rule = WEFT_OWN_WEIGHTS;
    mine.weight = own_weight;
    mine.ctx = &o;
    verdict_is(&ring, &m, WEFT_GRAPH_SOUND, none, "sound");
    set_ring(&o, 8, 0.25, 0.5);
    verdict_is(&ring, &mine, WEFT_GRAPH_SOUND, none, "sound");
    o.w[3][3] = sqrt(-1.0);
    verdict_is(&ring, &mine, WEFT_GRAPH_NOT_FINITE, none, "finite");
    set_ring(&o, 8, 0.25, 0.5);
    o.w[2][3] = 1e308 * 10;
    verdict_is(&ring, &mine, WEFT_GRAPH_NOT_FINITE, none, "finite");
    set_ring(&o, 8, 0.75, -0.5);
    verdict_is(&ring, &mine, WEFT_GRAPH_NEGATIVE, 0, "negative");
    set_ring(&o, 8, 0.25, 0.5);
    o.w[5][6] = o.w[6][5] = -0.1; /* their sums are wrong, too: first things first */
    verdict_is(&ring, &mine, WEFT_GRAPH_NEGATIVE, 5, "negative");
    set_ring(&o, 8, 0.25, 0.5);
    o.w[5][6] = 0.375;
    o.w[5][5] = 0.375; /* the row is right, the column is not */
    verdict_is(&ring, &mine, WEFT_GRAPH_NOT_SYMMETRIC, 5, "differently");
    set_ring(&o, 8, 0.25, 0.5);
    o.w[6][5] = 0.375;
    o.w[6][6] = 0.375;
    verdict_is(&ring, &mine, WEFT_GRAPH_NOT_SYMMETRIC, 5, "differently");
    set_ring(&o, 8, 0.25, 0.5);
    o.w[6][6] = 0.5 + 1e-8;
    verdict_is(&ring, &mine, WEFT_GRAPH_ROW_SUM, 6, "add up");
    o.w[6][6] = 0.5 + 1e-10; /* a rounding */
    verdict_is(&ring, &mine, WEFT_GRAPH_SOUND, none, "sound");
    memset(present, 1, sizeof present);
    present[2] = present[7] = 0;
    m.present = present;
    verdict_is(&ring, &m, WEFT_GRAPH_PARTED, 3, "not connected");
    m.present = NULL;
    set_ring(&o, 8, 0.5, 0);
    verdict_is(&ring, &mine, WEFT_GRAPH_SWINGS, none, "exchange");
    set_ring(&o, 8, 0.25, 0.5);
    o.w[0][1] = o.w[1][0] = o.w[4][5] = o.w[5][4] = 0;
    o.w[0][0] = o.w[1][1] = o.w[4][4] = o.w[5][5] = 0.75;
    verdict_is(&ring, &mine, WEFT_GRAPH_STANDS_STILL, none, "no spectral gap");
    free(memory);
    other = make(&g, of(RING, 5, 0, 0, 0)); /* of an odd ring no halves can be made */
    set_ring(&o, 5, 0.5, 0);
    verdict_is(&g, &mine, WEFT_GRAPH_SOUND, none, "sound");
    free(other);
    other = make(&g, of(RING, 40, 0, 0, 0));
    verdict_is(&g, &m, WEFT_GRAPH_SLOW, none, "many rounds");
    memset(present, 0, sizeof present);
    memset(present + 10, 1, 3);
    m.present = present;
    verdict_is(&g, &m, WEFT_GRAPH_THREAD, 10, "one edge");
    present[12] = 0;
    verdict_is(&g, &m, WEFT_GRAPH_SOUND, none, "sound"); /* two workers have no more to lose */
    present[11] = 0;
    verdict_is(&g, &m, WEFT_GRAPH_SOUND, none, "sound");
    m.present = NULL;
    free(other);
    other = make(&g, of(STAR, 20, 0, 0, 0));
    verdict_is(&g, &m, WEFT_GRAPH_HUB, 0, "one worker");
    free(other);
    for (v = 0; v < 19; v++) {
        star[v].a = 7;
        star[v].b = (uint32_t)(v < 7 ? v : v + 1);
    }
    other = make(&g, of_edges(20, star, 19));
    verdict_is(&g, &m, WEFT_GRAPH_HUB, 7, "one worker");
    free(other);
    other = make(&g, of(STAR, 6, 0, 0, 0));
    verdict_is(&g, &m, WEFT_GRAPH_THREAD, 1, "one edge");
    free(other);
    for (v = 0; v <= (int)WEFT_GRAPH_THREAD; v++)
        for (u = 0; u < v; u++)
            ck_assert_str_ne(weft_doctor_text((weft_graph_verdict)v), weft_doctor_text((weft_graph_verdict)u));
    ck_assert_str_eq(weft_doctor_text((weft_graph_verdict)99), "unknown verdict");
}
END_TEST

/* Stopped before it knows: it says so. */
START_TEST(a_doctor_in_a_hurry) {
    weft_doctor_report r;
    weft_doctor d;
    weft_graph g;
    void *memory = make(&g, of(TORUS, 20, 20, 0, 0)), *m;
    double exact = 0.2 * 2 * versine(2 * pi / 20);
    see(&g, NULL, &r);
    ck_assert_int_eq(r.verdict, WEFT_GRAPH_SOUND);
    ck_assert_double_eq_tol(r.gap, exact, 1e-12);
    memset(&r, 0, sizeof r);
    memset(&d, 0, sizeof d);
    d.graph = &g;
    d.workers = g.workers;
    d.limit = 5;
    m = room(weft_doctor_lay_out(&d, NULL));
    weft_doctor_lay_out(&d, m);
    weft_doctor_examine(&d, &r);
    ck_assert_uint_eq(r.steps, 5);
    ck_assert_double_gt(r.gap, exact); /* never below */
    ck_assert_double_gt(r.accuracy, 1e-3);
    ck_assert_double_le(r.gap - r.accuracy, exact);
    free(m);
    free(memory);
    memory = make(&g, of(CHAIN, 400, 0, 0, 0));
    memset(&r, 0, sizeof r);
    memset(&d, 0, sizeof d);
    d.graph = &g;
    d.workers = g.workers;
    d.limit = 6;
    m = room(weft_doctor_lay_out(&d, NULL));
    weft_doctor_lay_out(&d, m);
    weft_doctor_examine(&d, &r);
    ck_assert_double_gt(r.accuracy, r.gap);
    ck_assert_uint_le(r.rounds, WEFT_DOCTOR_SLOW);
    ck_assert_int_eq(r.verdict, WEFT_GRAPH_SLOW);
    free(m);
    free(memory);
}
END_TEST

/* More workers than four steps each are taken for. */
START_TEST(a_doctor_of_many) {
    weft_doctor_report r, smaller;
    weft_graph g;
    void *memory = make(&g, of(STAR, 16384, 0, 0, 0));
    ck_assert_int_eq(weft_graph_doctor(&g, NULL, NULL, 0, &smaller), WEFT_OK);
    free(memory);
    memory = make(&g, of(STAR, 20000, 0, 0, 0));
    see(&g, NULL, &r);
    ck_assert_uint_eq(r.bytes - smaller.bytes, (20000 - 16384) * (5 * sizeof(double) + 3 * sizeof(uint32_t)));
    ck_assert_double_eq_tol(r.gap, 1.0 / 20000, 1e-12);
    free(memory);
    if (sizeof(size_t) == 4) { /* not a graph, but that is not found out before */
        memset(&g, 0, sizeof g);
        g.struct_size = sizeof g;
        g.workers = WEFT_NO_RANK - 1;
        ck_assert_int_eq(weft_graph_doctor(&g, NULL, NULL, 0, &r), WEFT_ERR_OVERFLOW);
    }
}
END_TEST

/* The iteration's small matrix by itself: eigenvalues of closed form, and vectors that fall below every double. */
START_TEST(small_matrices) {
    enum { M = 150 };
    double diagonal[M], beside[M], level = 0, ratio, above;
    weft_doctor d;
    uint32_t k, m;
    memset(&d, 0, sizeof d);
    d.diagonal = diagonal;
    d.beside = beside;
    for (m = 1; m <= M; m += 7) { /* a chain: 2 b cos(k pi / (m + 1)) */
        for (k = 0; k < m; k++) {
            diagonal[k] = 0.25;
            beside[k] = 0.375;
        }
        above = 0.75 * cos(pi / (m + 1));
        ck_assert_double_eq_tol(weft_doctor_extreme(&d, m, 1), 0.25 + above, 1e-14);
        ck_assert_double_eq_tol(weft_doctor_extreme(&d, m, 0), 0.25 - above, 1e-14);
        /* unit vectors sqrt(2 / (m + 1)) sin(j k pi / (m + 1)) */
        level = 0.375 * sqrt(2.0 / (m + 1)) * sin(m * pi / (m + 1));
        ck_assert_double_eq_tol(weft_doctor_residual(&d, m, 0.25 + above), level, 1e-9);
        ck_assert_double_eq_tol(weft_doctor_residual(&d, m, 0.25 - above), level, 1e-9);
        for (k = 0; k < m; k++) diagonal[k] = 0; /* pivots of 0 */
        ck_assert_double_eq_tol(weft_doctor_extreme(&d, m, 1), above, 1e-14);
        ck_assert_double_eq_tol(weft_doctor_extreme(&d, m, 0), -above, 1e-14);
    }
    /* one element, and a long tail: each is 1e-3 of the one before, or a little more */
    for (k = 0; k < M; k++) {
        diagonal[k] = k ? 0 : 1;
        beside[k] = 1e-3;
    }
    for (m = 20; m <= 100; m += 10) {
        double value = weft_doctor_extreme(&d, m, 1);
        ck_assert_double_eq_tol(value, 1 + 1e-6, 1e-11);
        ratio = (value - sqrt(value * value - 4e-6)) / 2e-3; /* of neighbours: ratio + 1 / ratio = value / beside */
        level = log10(weft_doctor_residual(&d, m, value));
        ck_assert_double_eq_tol(level, log10(1e-3) + (m - 1) * log10(ratio), 1e-5);
    }
}
END_TEST

/* ---- */

static Suite *suite(const char *name, TCase **c) {
    Suite *s = suite_create(name);
    *c = tcase_create(name);
    tcase_set_timeout(*c, 120);
    suite_add_tcase(s, *c);
    return s;
}

int main(void) {
    Suite *s[4];
    TCase *c;
    SRunner *r;
    int failed, i;
    s[0] = suite("shapes", &c);
    tcase_add_test(c, regular_graphs_are_as_defined);
    tcase_add_test(c, in_memory_of_a_constant_size);
    tcase_add_loop_test(c, memory_is_exact, 0, KINDS);
    tcase_add_test(c, sizes_that_are_none);
    tcase_add_test(c, numbers_that_are_no_workers);
    tcase_add_test(c, edge_lists);
    tcase_add_test(c, long_rows);
    tcase_add_test(c, bad_edges_are_named);
    tcase_add_test(c, parts_among_those_present);
    tcase_add_test(c, hashes_tell_graphs_apart);
    s[1] = suite("random", &c);
    tcase_add_test(c, erdos_renyi_is_the_first_connected_draw);
    tcase_add_test(c, chances_in_53_bits);
    tcase_add_test(c, erdos_renyi_that_cannot_be_connected);
    tcase_add_test(c, erdos_renyi_beyond_its_bound);
    tcase_add_test(c, erdos_renyi_has_room);
    tcase_add_loop_test(c, erdos_renyi_has_its_probability, 0, 4);
    tcase_add_loop_test(c, seeds_make_the_graph, 0, 2);
    tcase_add_test(c, graphs_that_are_known);
    tcase_add_loop_test(c, small_worlds, 0, 5);
    tcase_add_test(c, small_worlds_without_room);
    tcase_add_test(c, small_worlds_are_drawn_until_connected);
    tcase_add_test(c, one_peer_is_a_matching);
    tcase_add_test(c, one_peer_with_many_workers);
    tcase_add_test(c, one_peer_forms_the_mean);
    s[2] = suite("weights", &c);
    tcase_add_loop_test(c, weights_are_doubly_stochastic, 0, 2);
    tcase_add_test(c, long_rows_add_up);
    tcase_add_test(c, weights_of_the_host);
    tcase_add_test(c, rounds_to_a_factor);
    s[3] = suite("doctor", &c);
    tcase_add_test(c, gaps_of_closed_form);
    tcase_add_test(c, gaps_of_large_graphs);
    tcase_add_loop_test(c, the_doctor_against_brute_force, 0, 3);
    tcase_add_test(c, the_doctor_repeats_itself);
    tcase_add_test(c, what_the_doctor_does_not_look_at);
    tcase_add_test(c, every_verdict);
    tcase_add_test(c, a_doctor_in_a_hurry);
    tcase_add_test(c, a_doctor_of_many);
    tcase_add_test(c, small_matrices);
    r = srunner_create(s[0]);
    for (i = 1; i < 4; i++) srunner_add_suite(r, s[i]);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
