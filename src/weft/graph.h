/* SPDX-License-Identifier: MIT
 * graph.h: who talks to whom, the weights of an averaging among neighbours, and the doctor that looks at both. */
#include "base.h"
/*==== API ====*/

/* ---- Graphs ----
 *
 * An undirected, connected graph over the workers 0 .. workers - 1, the same on all of them. Made once, by one of the
 * constructors below, in memory of the host; it is never written again, so any number of objects and threads may read
 * it. It must outlive the objects that were given it; the struct itself may be copied.
 *
 *     static unsigned char memory[WEFT_GRAPH_BYTES(32, 64)];          // workers, edges
 *     weft_graph graph;
 *     weft_status s = weft_graph_torus(&graph, 4, 8, memory, sizeof memory);
 *
 * or, where the number of edges is not known when compiling,
 *
 *     weft_graph_torus(&graph, rows, columns, NULL, 0);               // measures: graph.bytes
 *     s = weft_graph_torus(&graph, rows, columns, malloc(graph.bytes), graph.bytes);
 *
 * Every function here but the doctor can be called in every unit that includes this header. */

/* The edge between a and b. */
typedef struct weft_edge {
    uint32_t a, b;
} weft_edge;

#define WEFT_NO_EDGE UINT32_MAX

typedef struct weft_graph {
    size_t struct_size; /* sizeof(weft_graph) where it was made */
    uint32_t workers;   /* 0: there is no graph here (it was refused, or only measured) */
    uint32_t edges;
    uint32_t least_degree, most_degree;
    /* Worker i's neighbours, ascending: neighbour[offset[i]] .. neighbour[offset[i + 1] - 1]. */
    const uint32_t *offset;    /* workers + 1 */
    const uint32_t *neighbour; /* 2 edges */
    /* Edges have numbers: sorted by (lower end, higher end). Those whose lower end is i begin with upper[i]. */
    const uint32_t *upper; /* workers + 1 */
    size_t bytes;          /* of memory, alignment slack included: what the constructor needs */
    weft_detail detail;    /* why the constructor refused */
} weft_graph;

/* Bytes of memory for a graph; a constant expression for constants. Mind the overflow: constructors do. */
#define WEFT_GRAPH_BYTES(workers, edges) (4 * (2 * ((size_t)(workers) + 1) + 2 * (size_t)(edges)) + 3)

/* ---- Constructors ----
 *
 * All of them: `memory` of any alignment, at least graph->bytes bytes. With memory NULL and bytes 0 they only measure:
 * WEFT_OK, graph->bytes is set, and there is no graph yet. Errors, with the names and both values in graph->detail:
 * WEFT_ERR_ARGUMENT (a size, a probability, an edge), WEFT_ERR_MEMORY (too small), WEFT_ERR_OVERFLOW (more than
 * UINT32_MAX / 2 edges, or bytes that do not fit size_t). A graph of one worker and no edges is legal; what would be a
 * second edge between the same two workers (a ring of two) is left out. Random ones are drawn from a counter-based
 * generator: equal arguments give equal graphs on every machine. */

/* 0 - 1 - ... - (workers - 1) - 0 and the same without the last edge. */
WEFT_INLINE weft_status weft_graph_ring(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
WEFT_INLINE weft_status weft_graph_chain(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
/* Worker 0 and all others. */
WEFT_INLINE weft_status weft_graph_star(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
/* Everybody and everybody: workers^2 / 2 edges. */
WEFT_INLINE weft_status weft_graph_complete(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
/* Worker r * columns + c at (r, c), its four neighbours above, below, left and right, around the corners. */
WEFT_INLINE weft_status weft_graph_torus(weft_graph *graph, uint32_t rows, uint32_t columns, void *memory,
                                         size_t bytes);
/* 2^dimensions workers; neighbours differ in one bit. */
WEFT_INLINE weft_status weft_graph_hypercube(weft_graph *graph, uint32_t dimensions, void *memory, size_t bytes);
/* The undirected form of the exponential graph: i and j are neighbours if i - j or j - i is a power of two modulo
 * `workers`. (In the directed form each sends to i + 2^k only, which is doubly stochastic, too, but not symmetric;
 * this is it with every edge used in both directions.) At most 2 log2(workers) neighbours each. */
WEFT_INLINE weft_status weft_graph_exponential(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
/* Erdos-Renyi: every pair of workers is an edge with this probability, 0 < probability <= 1; drawn again until it is
 * connected, refused (WEFT_ERR_ARGUMENT) if WEFT_GRAPH_DRAWS draws are not, as below ln(workers) / workers. Tests
 * each of workers^2 / 2 pairs. The bytes are a bound on the draws: one of more edges (chance below 1e-19) is thrown
 * away. */
WEFT_INLINE weft_status weft_graph_erdos_renyi(weft_graph *graph, uint32_t workers, double probability, uint64_t seed,
                                               void *memory, size_t bytes);
/* Small world (Watts, Strogatz 1998): a ring in which everybody knows the next degree / 2 workers on either side; then
 * every edge, with probability `rewire`, keeps its first end and gets another second end, drawn from all workers that
 * are not yet its neighbours (it stays where 1,024 drawn all are). degree: even, 2 <= degree < workers. Drawn again
 * until it is connected, as above. */
WEFT_INLINE weft_status weft_graph_small_world(weft_graph *graph, uint32_t workers, uint32_t degree, double rewire,
                                               uint64_t seed, void *memory, size_t bytes);
/* Any edges, in any order, each once, in either direction; `edge` is copied. Refused (detail.field): an end that is no
 * worker (expected: the highest legal; got: that end; peer: the other end), a worker joined to itself (expected,
 * got: its number), an edge listed twice (expected, got: both places in the list; peer: its lower end), and a graph
 * that is not connected (expected: workers; got: how many worker 0 reaches; peer: the first that it does not). */
WEFT_INLINE weft_status weft_graph_from_edges(weft_graph *graph, uint32_t workers, const weft_edge *edge, size_t count,
                                              void *memory, size_t bytes);

#define WEFT_GRAPH_DRAWS 256u

/* One-peer exponential: a graph that changes with the round, in which everybody has one peer, or none (then it is the
 * worker itself). Round t pairs workers at distance 2^k, k = t modulo ceil(log2(workers)), so that all edges are in
 * weft_graph_exponential. It is mutual: peer(peer(i)) = i, hence weights of 1/2 are symmetric and doubly stochastic.
 * If `workers` is a power of two, log2(workers) rounds form the exact mean; else partners (and who is left over)
 * change from cycle to cycle, and the product of rounds forms the mean in the limit. Needs no graph. */
WEFT_INLINE uint32_t weft_graph_one_peer(uint32_t workers, uint64_t round, uint32_t worker);

/* ---- Questions ----
 *
 * Numbers that are no worker's have no neighbours and no edges: what comes off the wire may be asked about. */

WEFT_INLINE uint32_t weft_graph_degree(const weft_graph *graph, uint32_t i);
/* i's neighbours, ascending; *count may be 0. */
WEFT_INLINE const uint32_t *weft_graph_neighbours(const weft_graph *graph, uint32_t i, uint32_t *count);
/* Where j stands among i's neighbours, 0 .. degree - 1, or WEFT_NO_EDGE. Takes log2(degree) steps. */
WEFT_INLINE uint32_t weft_graph_slot(const weft_graph *graph, uint32_t i, uint32_t j);
WEFT_INLINE int weft_graph_has_edge(const weft_graph *graph, uint32_t i, uint32_t j);
/* The number of the edge between i and j, 0 .. edges - 1, in either direction; WEFT_NO_EDGE if there is none. It
 * depends on nothing but the graph. */
WEFT_INLINE uint32_t weft_graph_edge_index(const weft_graph *graph, uint32_t i, uint32_t j);
/* The ends of an edge, a < b; both WEFT_NO_RANK if there is no such edge. */
WEFT_INLINE weft_edge weft_graph_edge(const weft_graph *graph, uint32_t index);

/* Where part of the workers is lost, or does not take part: present[i] is not 0 for those that are there; NULL: all. */

/* i's neighbours that are there; 0 if i is not. */
WEFT_INLINE uint32_t weft_graph_degree_among(const weft_graph *graph, const unsigned char *present, uint32_t i);
/* How many parts the present workers fall into; label[i] becomes the lowest worker of i's part, WEFT_NO_RANK for those
 * that are not there. `label` has room for all workers. */
WEFT_INLINE uint32_t weft_graph_parts(const weft_graph *graph, const unsigned char *present, uint32_t *label);
/* Is there a way from every present worker to every other over present ones? `label` as above. */
WEFT_INLINE int weft_graph_connected(const weft_graph *graph, const unsigned char *present, uint32_t *label);

/* ---- Weights ----
 *
 * How much of worker j's parameters goes into worker i's: a matrix that is never formed. Both rules are symmetric and
 * doubly stochastic, whoever is present; those who are not keep what they have (1 for themselves, 0 else). */
typedef enum weft_mixing_rule {
    /* Metropolis: 1 / (1 + the larger of both degrees), degrees among those present. L. Xiao, S. Boyd, S. Lall: "A
     * scheme for robust distributed sensor fusion based on average consensus", IPSN 2005. */
    WEFT_METROPOLIS = 0,
    /* Every edge alike: 1 / (1 + most_degree), of the whole graph. The same weights whoever is present. */
    WEFT_UNIFORM = 1,
    WEFT_OWN_WEIGHTS = 2 /* the host's own, for the doctor to look at */
} weft_mixing_rule;

/* The weight of j in i's average, i == j included; must return the same for the same pair. */
typedef double (*weft_weight_fn)(void *ctx, uint32_t i, uint32_t j);

/* Zeroed: Metropolis, everybody present. */
typedef struct weft_mixing {
    weft_mixing_rule rule;
    const unsigned char *present; /* one a worker, as above; NULL: all */
    weft_weight_fn weight;        /* WEFT_OWN_WEIGHTS only */
    void *ctx;                    /* its first argument */
} weft_mixing;

/* One weight. 0 where there is no edge; what is left to 1 where i == j. For i == j it looks at all neighbours (for
 * Metropolis with `present`: and at theirs); else at i and j only. */
WEFT_INLINE double weft_graph_weight(const weft_graph *graph, const weft_mixing *mixing, uint32_t i, uint32_t j);
/* A whole row: weight[k] is that of i's k-th neighbour; returned: that of i itself. The sum of the row differs from 1
 * by less than 2^-53, however many there are (a plain sum of doubles rounds on its way). weight may be NULL. */
WEFT_INLINE double weft_graph_row(const weft_graph *graph, const weft_mixing *mixing, uint32_t i, double *weight);

/* Rounds until the workers' distance from their mean is `factor` (0 < factor < 1) of what it was, at worst, if each
 * round shrinks it to 1 - gap: the least t with (1 - gap)^t <= factor, to 1 in 1e4 (gap >= 1e-12) and never off by
 * more than 1 for gap >= 1e-6; UINT64_MAX: never. */
WEFT_INLINE uint64_t weft_graph_rounds(double gap, double factor);

/* ---- The doctor ----
 *
 * Looks at a graph with weights on it and says what averaging over it will do. The function is there in the unit that
 * defines an X_IMPLEMENTATION:
 *
 *     weft_doctor_report r;
 *     weft_graph_doctor(&graph, NULL, NULL, 0, &r);                           // measures: r.bytes
 *     weft_status s = weft_graph_doctor(&graph, NULL, malloc(r.bytes), r.bytes, &r);
 *     if (s == WEFT_OK && r.verdict != WEFT_GRAPH_SOUND) puts(r.text);
 *
 * weft_status weft_graph_doctor(const weft_graph *graph, const weft_mixing *mixing, void *memory, size_t bytes,
 *                               weft_doctor_report *report);
 *
 * mixing NULL: Metropolis, everybody present. Memory of any alignment, needed for the call only, about 116 bytes a
 * worker; memory NULL and bytes 0: measures only. Errors (report->detail): WEFT_ERR_ARGUMENT, WEFT_ERR_MEMORY,
 * WEFT_ERR_OVERFLOW, WEFT_ERR_ABI (a graph of another version). A bad graph is no error: WEFT_OK, and the verdict says
 * so. */

/* The first of these that applies. From WEFT_GRAPH_SLOW on the graph can be used. */
typedef enum weft_graph_verdict {
    WEFT_GRAPH_SOUND = 0,
    WEFT_GRAPH_NOT_FINITE,    /* a weight is NaN or infinite */
    WEFT_GRAPH_NEGATIVE,      /* a weight is below 0 */
    WEFT_GRAPH_NOT_SYMMETRIC, /* worker `worst` and a neighbour weigh each other differently */
    WEFT_GRAPH_ROW_SUM,       /* worker `worst`'s weights do not add up to 1 */
    WEFT_GRAPH_PARTED,        /* worker `worst` is not reached from the lowest present one */
    WEFT_GRAPH_SWINGS,        /* two halves exchange their values for ever: the eigenvalue -1 */
    WEFT_GRAPH_STANDS_STILL,  /* connected by edges of weight 0, or nearly so: no gap to be seen */
    WEFT_GRAPH_SLOW,          /* more than WEFT_DOCTOR_SLOW rounds to a thousandth, or too many to tell */
    WEFT_GRAPH_HUB,           /* worker `worst` has WEFT_DOCTOR_HUB times as many neighbours as the mean */
    WEFT_GRAPH_THREAD         /* worker `worst` hangs on one edge: its loss parts it from all */
} weft_graph_verdict;

#define WEFT_DOCTOR_SLOW 500u
#define WEFT_DOCTOR_HUB 4u

typedef struct weft_doctor_report {
    size_t bytes; /* of memory needed, alignment slack included */
    weft_graph_verdict verdict;
    const char *text;                       /* the verdict in one line: static text, never NULL */
    uint32_t worst;                         /* a worker that the verdict names, or WEFT_NO_RANK */
    uint32_t present;                       /* workers looked at */
    uint32_t parts;                         /* 1: connected */
    uint32_t least_degree, most_degree;     /* among those present */
    uint32_t diameter_least, diameter_most; /* the diameter lies between; both 0 if parted */
    double asymmetry;                       /* largest |w_ij - w_ji| */
    double row_error;                       /* largest |sum of a row - 1|; of a column, too, where it is symmetric */
    double least_weight;                    /* the smallest on an edge or on a worker itself */
    /* 1 - the largest modulus of all eigenvalues but the one of the mean: each round shrinks the distance from the
     * mean to 1 - gap, at worst. 0 if there is none (parted, or verdicts before that, for which it is not computed). */
    double gap;
    double highest, lowest; /* the extreme eigenvalues but the one of the mean: their moduli make the gap */
    /* An eigenvalue lies within this of the one that makes the gap: 1e-12 or better, unless the iteration reached its
     * bound (as on a chain of 100,000): then the gap may be smaller than told. */
    double accuracy;
    uint32_t steps;     /* of the iteration */
    uint64_t rounds;    /* predicted, to a thousandth of the distance; UINT64_MAX: never */
    weft_detail detail; /* why it was refused */
} weft_doctor_report;

/* ---- How graphs are made ---- */

#ifdef WEFT_NO_STRINGS
#define WEFT_GRAPH_TEXT(s) ""
#else
#define WEFT_GRAPH_TEXT(s) (s)
#endif

/* There is no graph then. */
WEFT_INLINE weft_status weft_graph_refuse(weft_graph *g, weft_status status, const char *field, uint64_t expected,
                                          uint64_t got) {
    g->workers = g->edges = g->least_degree = g->most_degree = 0;
    g->offset = g->neighbour = g->upper = NULL;
    g->detail.status = status;
    g->detail.field = field;
    g->detail.expected = expected;
    g->detail.got = got;
    return status;
}

/* The arrays while they are written. */
typedef struct weft_graph_arrays {
    uint32_t *offset, *upper, *neighbour; /* NULL: only measuring */
} weft_graph_arrays;

/* Checks the sizes and hands out the memory. `edges` is what the memory is for. */
WEFT_INLINE weft_status weft_graph_begin(weft_graph *g, uint64_t workers, uint64_t edges, void *memory, size_t bytes,
                                         weft_graph_arrays *a) {
    uint64_t need;
    a->offset = a->upper = a->neighbour = NULL;
    if (workers == 0 || workers >= WEFT_NO_RANK)
        return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("workers"), workers ? WEFT_NO_RANK - 1u : 1u,
                                 workers);
    if (edges > UINT32_MAX / 2)
        return weft_graph_refuse(g, WEFT_ERR_OVERFLOW, WEFT_GRAPH_TEXT("edges"), UINT32_MAX / 2, edges);
    need = 4 * (2 * (workers + 1) + 2 * edges) + 3;
    if (need > SIZE_MAX) return weft_graph_refuse(g, WEFT_ERR_OVERFLOW, WEFT_GRAPH_TEXT("bytes"), SIZE_MAX, need);
    g->bytes = (size_t)need;
    if (!memory && !bytes) return WEFT_OK;
    if (!memory) return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("memory"), need, 0);
    if (bytes < need) return weft_graph_refuse(g, WEFT_ERR_MEMORY, WEFT_GRAPH_TEXT("bytes"), need, bytes);
    a->offset = (uint32_t *)(void *)((unsigned char *)memory + (4 - (uintptr_t)memory % 4) % 4);
    a->upper = a->offset + (size_t)(workers + 1);
    a->neighbour = a->upper + (size_t)(workers + 1);
    return WEFT_OK;
}

/* Before anything else, so that a refusal finds the struct in order. 0: there is none. */
WEFT_INLINE int weft_graph_clear(weft_graph *g) {
    if (!g) return 0;
    weft_graph_refuse(g, WEFT_OK, NULL, 0, 0);
    g->struct_size = sizeof *g;
    g->bytes = 0;
    g->detail.peer = WEFT_NO_RANK;
    g->detail.round = 0;
    g->detail.phase = NULL;
    return 1;
}

/* Degrees in offset become beginnings; weft_graph_put moves them on, and weft_graph_rewind back. */
WEFT_INLINE uint32_t weft_graph_begins(uint32_t *offset, uint32_t workers) {
    uint32_t i, sum = 0;
    for (i = 0; i < workers; i++) {
        uint32_t degree = offset[i];
        offset[i] = sum;
        sum += degree;
    }
    offset[workers] = sum;
    return sum;
}

WEFT_INLINE void weft_graph_put(const weft_graph_arrays *a, uint32_t u, uint32_t v) {
    a->neighbour[a->offset[u]++] = v;
    a->neighbour[a->offset[v]++] = u;
}

WEFT_INLINE void weft_graph_rewind(uint32_t *offset, uint32_t workers) {
    uint32_t i;
    for (i = workers; i > 0; i--) offset[i] = offset[i - 1];
    offset[0] = 0;
}

/* Heap sort: in place, and never slow. */
WEFT_INLINE void weft_graph_sort(uint32_t *v, uint32_t count) {
    uint32_t root = count / 2, end = count;
    while (end > 1) {
        uint32_t value, at, child;
        if (root > 0) {
            value = v[--root];
        } else {
            value = v[--end];
            v[end] = v[0];
        }
        at = root;
        while ((child = 2 * at + 1) < end) {
            if (child + 1 < end && v[child + 1] > v[child]) child++;
            if (v[child] <= value) break;
            v[at] = v[child];
            at = child;
        }
        v[at] = value;
    }
}

/* The arrays hold all edges, rows not yet sorted: sorts them, and makes the graph. WEFT_AGAIN: it is not connected;
 * then only upper, as labels of the parts, is not as it should be. */
WEFT_INLINE weft_status weft_graph_finish(weft_graph *g, uint32_t workers, const weft_graph_arrays *a) {
    uint32_t i, k;
    for (i = 0; i < workers; i++) {
        uint32_t *row = a->neighbour + a->offset[i], degree = a->offset[i + 1] - a->offset[i];
        for (k = 1; k < degree && row[k - 1] < row[k]; k++) continue;
        if (k < degree) weft_graph_sort(row, degree);
        if (i == 0 || degree < g->least_degree) g->least_degree = degree;
        if (i == 0 || degree > g->most_degree) g->most_degree = degree;
    }
    g->workers = workers;
    g->edges = a->offset[workers] / 2;
    g->offset = a->offset;
    g->neighbour = a->neighbour;
    if (weft_graph_parts(g, NULL, a->upper) != 1) return WEFT_AGAIN;
    for (i = 0, a->upper[0] = 0; i < workers; i++) {
        const uint32_t *row = a->neighbour + a->offset[i];
        uint32_t degree = a->offset[i + 1] - a->offset[i];
        for (k = degree; k > 0 && row[k - 1] > i; k--) continue;
        a->upper[i + 1] = a->upper[i] + (degree - k);
    }
    g->upper = a->upper;
    return WEFT_OK;
}

/* The generator: the finaliser of splitmix64 over key + (counter + 1) * 2^64 / golden ratio. */
WEFT_INLINE uint64_t weft_graph_draw(uint64_t key, uint64_t counter) {
    uint64_t z = key + (counter + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* draw >> 11 is below this with the given probability. */
WEFT_INLINE uint64_t weft_graph_threshold(double probability) {
    return (uint64_t)(probability * 9007199254740992.0);
}

/* ---- Graphs that have a rule for "is v, above u, a neighbour of u?" ---- */

typedef enum weft_graph_kind {
    WEFT_GRAPH_IS_CIRCLE, /* of distances 1, 2, 4, ... 2^(tries / 2 - 1): ring, exponential */
    WEFT_GRAPH_IS_CHAIN,
    WEFT_GRAPH_IS_STAR,
    WEFT_GRAPH_IS_TORUS,
    WEFT_GRAPH_IS_HYPERCUBE,
    WEFT_GRAPH_IS_RANDOM,     /* Erdos-Renyi; complete, where the threshold is 2^53 */
    WEFT_GRAPH_IS_SMALL_WORLD /* not by candidates: see weft_graph_rewire */
} weft_graph_kind;

typedef struct weft_graph_plan {
    weft_graph_kind kind;
    uint32_t workers;
    uint32_t columns; /* torus */
    uint32_t tries;   /* candidates a worker, where their number is the same for all; small world: half the degree */
    uint64_t key, threshold; /* random */
    uint64_t most;           /* edges that there is room for */
} weft_graph_plan;

WEFT_INLINE uint32_t weft_graph_tries(const weft_graph_plan *p, uint32_t u) {
    if (p->kind == WEFT_GRAPH_IS_RANDOM) return p->workers - 1 - u;
    if (p->kind == WEFT_GRAPH_IS_STAR) return u == 0 ? p->workers - 1 : 0;
    return p->tries;
}

/* i + by or, if back, i - by, modulo n; by < n. */
WEFT_INLINE uint32_t weft_graph_around(uint32_t i, uint32_t by, uint32_t n, int back) {
    return (uint32_t)(((uint64_t)i + (back ? n - by : by)) % n);
}

/* The k-th candidate of u; only those above u count. */
WEFT_INLINE uint32_t weft_graph_candidate(const weft_graph_plan *p, uint32_t u, uint32_t k) {
    uint32_t n = p->workers, c = p->columns, column;
    switch (p->kind) {
    case WEFT_GRAPH_IS_CIRCLE: return weft_graph_around(u, 1u << k / 2, n, k % 2);
    case WEFT_GRAPH_IS_CHAIN: return u + 1 < n ? u + 1 : u;
    case WEFT_GRAPH_IS_STAR: return k + 1;
    case WEFT_GRAPH_IS_TORUS:
        if (k < 2) return weft_graph_around(u, c % n, n, k == 1);
        column = u % c;
        return u - column + weft_graph_around(column, 1 % c, c, k == 3);
    case WEFT_GRAPH_IS_HYPERCUBE: return u ^ 1u << k;
    case WEFT_GRAPH_IS_RANDOM:
    case WEFT_GRAPH_IS_SMALL_WORLD: break;
    }
    k += u + 1;
    return weft_graph_draw(p->key, (uint64_t)u * n + k) >> 11 < p->threshold ? k : u;
}

/* Counts (degrees in offset), or fills in. 0: too many edges, or a worker without any: no use to go on. */
WEFT_INLINE int weft_graph_pass(const weft_graph_plan *p, const weft_graph_arrays *a, int fill) {
    uint64_t edges = 0;
    uint32_t u, k, j;
    for (u = 0; u < p->workers; u++) {
        uint32_t tries = weft_graph_tries(p, u);
        for (k = 0; k < tries; k++) {
            uint32_t v = weft_graph_candidate(p, u, k);
            if (v <= u) continue;
            j = k;
            if (p->kind == WEFT_GRAPH_IS_CIRCLE || p->kind == WEFT_GRAPH_IS_TORUS)
                for (j = 0; j < k && weft_graph_candidate(p, u, j) != v; j++) continue;
            if (j < k) continue; /* twice the same */
            if (fill) {
                weft_graph_put(a, u, v);
            } else {
                if (++edges > p->most) return 0;
                a->offset[u]++;
                a->offset[v]++;
            }
        }
        if (!fill && a->offset[u] == 0 && p->workers > 1) return 0;
    }
    return 1;
}

WEFT_INLINE weft_status weft_graph_build(weft_graph *g, const weft_graph_plan *p, const weft_graph_arrays *a) {
    uint32_t i;
    for (i = 0; i <= p->workers; i++) a->offset[i] = 0;
    if (!weft_graph_pass(p, a, 0)) return WEFT_AGAIN;
    weft_graph_begins(a->offset, p->workers);
    weft_graph_pass(p, a, 1);
    weft_graph_rewind(a->offset, p->workers);
    return weft_graph_finish(g, p->workers, a);
}

WEFT_INLINE weft_status weft_graph_regular(weft_graph *g, weft_graph_plan *p, uint64_t edges, void *memory,
                                           size_t bytes) {
    weft_graph_arrays a;
    weft_status s = weft_graph_begin(g, p->workers, edges, memory, bytes, &a);
    p->most = edges;
    return s == WEFT_OK && a.offset ? weft_graph_build(g, p, &a) : s;
}

/* Edges of a ring. */
WEFT_INLINE uint64_t weft_graph_circle(uint32_t workers) {
    return workers > 2 ? workers : workers - (workers > 0);
}

WEFT_INLINE weft_graph_plan weft_graph_plan_of(weft_graph_kind kind, uint32_t workers, uint32_t tries) {
    weft_graph_plan p;
    p.kind = kind;
    p.workers = workers;
    p.columns = 1;
    p.tries = tries;
    p.key = p.threshold = p.most = 0;
    return p;
}

WEFT_INLINE weft_status weft_graph_ring(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_CIRCLE, workers, workers > 1 ? 2 : 0);
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    return weft_graph_regular(graph, &p, weft_graph_circle(workers), memory, bytes);
}

WEFT_INLINE weft_status weft_graph_chain(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_CHAIN, workers, 1);
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    return weft_graph_regular(graph, &p, workers - (workers > 0), memory, bytes);
}

WEFT_INLINE weft_status weft_graph_star(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_STAR, workers, 0);
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    return weft_graph_regular(graph, &p, workers - (workers > 0), memory, bytes);
}

WEFT_INLINE weft_status weft_graph_complete(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_RANDOM, workers, 0);
    uint64_t n = workers;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    p.threshold = weft_graph_threshold(1);
    return weft_graph_regular(graph, &p, n ? n * (n - 1) / 2 : 0, memory, bytes);
}

WEFT_INLINE weft_status weft_graph_torus(weft_graph *graph, uint32_t rows, uint32_t columns, void *memory,
                                         size_t bytes) {
    uint64_t workers = (uint64_t)rows * columns;
    weft_graph_plan p;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    if (workers == 0) return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("rows, columns"), 1, workers);
    if (workers >= WEFT_NO_RANK)
        return weft_graph_refuse(graph, WEFT_ERR_OVERFLOW, WEFT_GRAPH_TEXT("rows * columns"), WEFT_NO_RANK - 1u,
                                 workers);
    p = weft_graph_plan_of(WEFT_GRAPH_IS_TORUS, (uint32_t)workers, 4);
    p.columns = columns;
    return weft_graph_regular(graph, &p, rows * weft_graph_circle(columns) + columns * weft_graph_circle(rows), memory,
                              bytes);
}

WEFT_INLINE weft_status weft_graph_hypercube(weft_graph *graph, uint32_t dimensions, void *memory, size_t bytes) {
    weft_graph_plan p;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    if (dimensions > 31)
        return weft_graph_refuse(graph, WEFT_ERR_OVERFLOW, WEFT_GRAPH_TEXT("dimensions"), 31, dimensions);
    p = weft_graph_plan_of(WEFT_GRAPH_IS_HYPERCUBE, 1u << dimensions, dimensions);
    return weft_graph_regular(graph, &p, ((uint64_t)dimensions << dimensions) / 2, memory, bytes);
}

/* The least k with 2^k >= workers. */
WEFT_INLINE uint32_t weft_graph_log2(uint32_t workers) {
    uint32_t k = 0;
    while ((uint64_t)1 << k < workers) k++;
    return k;
}

WEFT_INLINE weft_status weft_graph_exponential(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_CIRCLE, workers, 2 * weft_graph_log2(workers));
    uint32_t k, j, degree = 0;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    for (k = 0; k < p.tries; k++) { /* the neighbours of worker 0 */
        for (j = 0; j < k && weft_graph_candidate(&p, 0, j) != weft_graph_candidate(&p, 0, k); j++) continue;
        degree += j == k;
    }
    return weft_graph_regular(graph, &p, (uint64_t)workers * degree / 2, memory, bytes);
}

/* Not below the square root. */
WEFT_INLINE uint64_t weft_graph_root_above(uint64_t v) {
    uint64_t r = 1;
    int i;
    if (v >> 62) return (uint64_t)1 << 32;
    while (r * r < v) r *= 2;
    for (i = 0; i < 6; i++) r = (r + v / r) / 2 + 1; /* Newton from above, always rounded up */
    return r;
}

/* A probability that is one, or a refusal. */
WEFT_INLINE weft_status weft_graph_chance(weft_graph *g, double p, int zero, const char *field) {
    uint64_t one = 0x3FF0000000000000u, bits = 0;
    unsigned char *to = (unsigned char *)&bits;
    const unsigned char *from = (const unsigned char *)&p;
    size_t i;
    if (p <= 1 && (zero ? p >= 0 : p > 0)) return WEFT_OK;
    for (i = 0; i < sizeof bits; i++) to[i] = from[i];
    return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, field, one, bits);
}

/* Small world: `to` holds p->tries far ends of each worker. Every edge stands at one of its ends, so two lists tell. */
WEFT_INLINE int weft_graph_knows(const weft_graph_plan *p, const uint32_t *to, uint32_t i, uint32_t j) {
    uint32_t k;
    for (k = 0; k < p->tries; k++)
        if (to[(size_t)i * p->tries + k] == j || to[(size_t)j * p->tries + k] == i) return 1;
    return 0;
}

WEFT_INLINE void weft_graph_rewire(const weft_graph_plan *p, uint32_t *to) {
    uint32_t i, k, t, j;
    for (i = 0; i < p->workers; i++)
        for (k = 0; k < p->tries; k++) to[(size_t)i * p->tries + k] = weft_graph_around(i, k + 1, p->workers, 0);
    for (k = 0; k < p->tries; k++)
        for (i = 0; i < p->workers; i++) {
            uint64_t mine = weft_graph_draw(p->key, (uint64_t)k * p->workers + i);
            if (mine >> 11 >= p->threshold) continue;
            for (t = 0; t < 1024; t++) { /* if all fail, everybody is a neighbour, or nearly: the edge stays */
                j = (uint32_t)((weft_graph_draw(mine, t) >> 32) * p->workers >> 32);
                if (j != i && !weft_graph_knows(p, to, i, j)) {
                    to[(size_t)i * p->tries + k] = j;
                    break;
                }
            }
        }
}

/* The far ends go into the second half of the array, and from there, once the degrees are known, to the beginnings of
 * the rows, which never lie behind where they are read. */
WEFT_INLINE weft_status weft_graph_small(weft_graph *g, const weft_graph_plan *p, const weft_graph_arrays *a) {
    uint32_t n = p->workers, half = p->tries, i, k, *to = a->neighbour + (size_t)p->most;
    weft_graph_rewire(p, to);
    for (i = 0; i < n; i++) a->offset[i] = half;
    for (i = 0; i < p->most; i++) a->offset[to[i]]++;
    weft_graph_begins(a->offset, n);
    for (i = 0; i < n; i++) {
        for (k = 0; k < half; k++) a->neighbour[a->offset[i] + k] = to[(size_t)i * half + k];
        a->upper[i] = a->offset[i] + half;
    }
    for (i = 0; i < n; i++)
        for (k = 0; k < half; k++) a->neighbour[a->upper[a->neighbour[a->offset[i] + k]]++] = i;
    return weft_graph_finish(g, n, a);
}

/* Draws until the graph is connected. */
WEFT_INLINE weft_status weft_graph_drawn(weft_graph *g, weft_graph_plan *p, const weft_graph_arrays *a, uint64_t seed,
                                         const char *field) {
    uint32_t draw;
    for (draw = 0; draw < WEFT_GRAPH_DRAWS; draw++) {
        p->key = weft_graph_draw(seed, draw);
        if ((p->kind == WEFT_GRAPH_IS_RANDOM ? weft_graph_build(g, p, a) : weft_graph_small(g, p, a)) == WEFT_OK)
            return WEFT_OK;
    }
    return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, field, 1, draw);
}

WEFT_INLINE weft_status weft_graph_erdos_renyi(weft_graph *graph, uint32_t workers, double probability, uint64_t seed,
                                               void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_RANDOM, workers, 0);
    uint64_t pairs = workers ? (uint64_t)workers * (workers - 1) / 2 : 0, mean;
    weft_graph_arrays a;
    weft_status s;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    s = weft_graph_chance(graph, probability, 0, WEFT_GRAPH_TEXT("probability"));
    if (s != WEFT_OK) return s;
    p.threshold = weft_graph_threshold(probability);
    mean = (uint64_t)((double)pairs * probability) + 1;
    p.most = mean + 10 * weft_graph_root_above(mean) + 32; /* Chernoff: exceeded with a chance below e^-45 */
    if (p.most > pairs) p.most = pairs;
    s = weft_graph_begin(graph, workers, p.most, memory, bytes, &a);
    if (s != WEFT_OK || !a.offset) return s;
    return weft_graph_drawn(graph, &p, &a, seed, WEFT_GRAPH_TEXT("probability (no connected draw)"));
}

WEFT_INLINE weft_status weft_graph_small_world(weft_graph *graph, uint32_t workers, uint32_t degree, double rewire,
                                               uint64_t seed, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_SMALL_WORLD, workers, degree / 2);
    weft_graph_arrays a;
    weft_status s;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    if (degree < 2 || degree % 2 || degree >= workers)
        return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("degree (even, below workers)"),
                                 degree < 2 || workers < 3 ? 2
                                 : degree < workers        ? degree - 1
                                                           : (workers - 1) / 2 * 2,
                                 degree);
    s = weft_graph_chance(graph, rewire, 1, WEFT_GRAPH_TEXT("rewire"));
    if (s != WEFT_OK) return s;
    p.threshold = weft_graph_threshold(rewire);
    p.most = (uint64_t)workers * p.tries;
    s = weft_graph_begin(graph, workers, p.most, memory, bytes, &a);
    if (s != WEFT_OK || !a.offset) return s;
    return weft_graph_drawn(graph, &p, &a, seed, WEFT_GRAPH_TEXT("rewire (no connected draw)"));
}

/* An edge stands twice in the list: where? */
WEFT_INLINE weft_status weft_graph_twice(weft_graph *g, const weft_edge *edge, size_t count, uint32_t a, uint32_t b) {
    size_t i, first = count;
    for (i = 0; i < count; i++) {
        if (!((edge[i].a == a && edge[i].b == b) || (edge[i].a == b && edge[i].b == a))) continue;
        if (first < count) break;
        first = i;
    }
    g->detail.peer = a < b ? a : b;
    return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edge (listed twice)"), first, i);
}

WEFT_INLINE weft_status weft_graph_from_edges(weft_graph *graph, uint32_t workers, const weft_edge *edge, size_t count,
                                              void *memory, size_t bytes) {
    weft_graph_arrays a;
    weft_status s;
    size_t i;
    uint32_t u, k, reached;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    s = weft_graph_begin(graph, workers, count, memory, bytes, &a);
    if (s != WEFT_OK) return s;
    if (count && !edge) return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edge"), 1, 0);
    for (i = 0; i < count; i++) {
        if (edge[i].a >= workers || edge[i].b >= workers) {
            graph->detail.peer = edge[i].a >= workers ? edge[i].b : edge[i].a;
            return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edge (no such worker)"), workers - 1,
                                     edge[i].a >= workers ? edge[i].a : edge[i].b);
        }
        if (edge[i].a == edge[i].b)
            return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edge (from a worker to itself)"),
                                     edge[i].a, edge[i].b);
    }
    if (!a.offset) return WEFT_OK;
    for (u = 0; u <= workers; u++) a.offset[u] = 0;
    for (i = 0; i < count; i++) {
        a.offset[edge[i].a]++;
        a.offset[edge[i].b]++;
    }
    weft_graph_begins(a.offset, workers);
    for (i = 0; i < count; i++) weft_graph_put(&a, edge[i].a, edge[i].b);
    weft_graph_rewind(a.offset, workers);
    s = weft_graph_finish(graph, workers, &a);
    for (u = 0; u < workers; u++)
        for (k = a.offset[u] + 1; k < a.offset[u + 1]; k++)
            if (a.neighbour[k - 1] == a.neighbour[k]) return weft_graph_twice(graph, edge, count, u, a.neighbour[k]);
    if (s == WEFT_OK) return s;
    for (u = reached = 0; u < workers; u++) {
        reached += a.upper[u] == 0;
        if (a.upper[u] != 0 && graph->detail.peer == WEFT_NO_RANK) graph->detail.peer = u;
    }
    return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edges (not connected)"), workers, reached);
}

WEFT_INLINE uint32_t weft_graph_one_peer(uint32_t workers, uint64_t round, uint32_t worker) {
    uint32_t phases = weft_graph_log2(workers), k, z = 0, length, at, i;
    uint64_t turn;
    if (worker >= workers) return WEFT_NO_RANK;
    if (phases == 0) return worker;
    k = (uint32_t)(round % phases);
    if ((workers & (workers - 1)) == 0) return worker ^ 1u << k;
    /* Steps of 2^k part the workers into 2^z circles. `at` is the worker's place in its circle: how many steps from
     * its lowest worker. Steps can be halved modulo the length of a circle, since that is odd where 2^z < 2^k. */
    while (z < k && workers % (2u << z) == 0) z++;
    length = workers >> z;
    at = worker >> z;
    for (i = z; i < k; i++) at = at % 2 ? (uint32_t)(((uint64_t)at + length) / 2) : at / 2;
    /* Every other place is paired with the next one, beginning one place further each cycle. */
    turn = round / phases % length;
    at = (uint32_t)(((uint64_t)at + length - turn) % length);
    if (at % 2 == 0 && at + 1 == length) return worker;
    return weft_graph_around(worker, 1u << k, workers, at % 2);
}

/* ---- How questions are answered ---- */

WEFT_INLINE uint32_t weft_graph_degree(const weft_graph *graph, uint32_t i) {
    return i < graph->workers ? graph->offset[i + 1] - graph->offset[i] : 0;
}

WEFT_INLINE const uint32_t *weft_graph_neighbours(const weft_graph *graph, uint32_t i, uint32_t *count) {
    *count = weft_graph_degree(graph, i);
    return *count ? graph->neighbour + graph->offset[i] : graph->neighbour;
}

WEFT_INLINE uint32_t weft_graph_slot(const weft_graph *graph, uint32_t i, uint32_t j) {
    uint32_t count, low = 0, high;
    const uint32_t *row = weft_graph_neighbours(graph, i, &count);
    high = count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (row[mid] < j)
            low = mid + 1;
        else
            high = mid;
    }
    return low < count && row[low] == j ? low : WEFT_NO_EDGE;
}

WEFT_INLINE int weft_graph_has_edge(const weft_graph *graph, uint32_t i, uint32_t j) {
    return weft_graph_slot(graph, i, j) != WEFT_NO_EDGE;
}

WEFT_INLINE uint32_t weft_graph_edge_index(const weft_graph *graph, uint32_t i, uint32_t j) {
    uint32_t low = i < j ? i : j, slot = weft_graph_slot(graph, low, i < j ? j : i);
    if (slot == WEFT_NO_EDGE) return WEFT_NO_EDGE;
    /* the row ends with the edges that begin here */
    return graph->upper[low + 1] - (graph->offset[low + 1] - graph->offset[low] - slot);
}

WEFT_INLINE weft_edge weft_graph_edge(const weft_graph *graph, uint32_t index) {
    weft_edge e;
    uint32_t low = 0, high = graph->workers;
    e.a = e.b = WEFT_NO_RANK;
    if (index >= graph->edges) return e;
    while (high - low > 1) { /* the last worker whose edges begin at or before this one */
        uint32_t mid = low + (high - low) / 2;
        if (graph->upper[mid] <= index)
            low = mid;
        else
            high = mid;
    }
    e.a = low;
    e.b = graph->neighbour[graph->offset[low + 1] - (graph->upper[low + 1] - index)];
    return e;
}

WEFT_INLINE uint32_t weft_graph_degree_among(const weft_graph *graph, const unsigned char *present, uint32_t i) {
    uint32_t count, k, degree = 0;
    const uint32_t *row = weft_graph_neighbours(graph, i, &count);
    if (!present || !count) return count;
    for (k = 0; present[i] && k < count; k++) degree += present[row[k]] != 0;
    return degree;
}

/* Labels lead downwards, to the lowest of what has been joined so far; the way is made shorter. */
WEFT_INLINE uint32_t weft_graph_lowest(uint32_t *label, uint32_t i) {
    while (label[i] != i) {
        label[i] = label[label[i]];
        i = label[i];
    }
    return i;
}

WEFT_INLINE uint32_t weft_graph_parts(const weft_graph *graph, const unsigned char *present, uint32_t *label) {
    uint32_t i, k, parts = 0;
    for (i = 0; i < graph->workers; i++) label[i] = i;
    for (i = 0; i < graph->workers; i++)
        for (k = graph->offset[i]; k < graph->offset[i + 1] && graph->neighbour[k] < i; k++) {
            uint32_t a = i, b = graph->neighbour[k];
            if (present && (!present[a] || !present[b])) continue;
            a = weft_graph_lowest(label, a);
            b = weft_graph_lowest(label, b);
            label[a > b ? a : b] = a < b ? a : b;
        }
    for (i = 0; i < graph->workers; i++) {
        if (present && !present[i]) {
            label[i] = WEFT_NO_RANK;
            continue;
        }
        parts += label[i] == i;
        label[i] = label[label[i]]; /* lower ones are done */
    }
    return parts;
}

WEFT_INLINE int weft_graph_connected(const weft_graph *graph, const unsigned char *present, uint32_t *label) {
    return weft_graph_parts(graph, present, label) <= 1;
}

/* ---- How weights are formed ---- */

/* A sum that keeps what its roundings drop. */
typedef struct weft_graph_sum {
    double sum, dropped;
} weft_graph_sum;

WEFT_INLINE void weft_graph_sum_add(weft_graph_sum *s, double v) {
    double sum = s->sum + v, part = sum - s->sum;
    s->dropped += (s->sum - (sum - part)) + (v - part);
    s->sum = sum;
}

/* The largest share that worker i, present, can give to a neighbour; an edge has the smaller of its ends' shares. */
WEFT_INLINE double weft_graph_share(const weft_graph *graph, const weft_mixing *mixing, uint32_t i) {
    if (mixing && mixing->rule == WEFT_UNIFORM) return 1.0 / (1.0 + graph->most_degree);
    return 1.0 / (1.0 + weft_graph_degree_among(graph, mixing ? mixing->present : NULL, i));
}

WEFT_INLINE double weft_graph_row(const weft_graph *graph, const weft_mixing *mixing, uint32_t i, double *weight) {
    const unsigned char *present = mixing ? mixing->present : NULL;
    int own = mixing && mixing->rule == WEFT_OWN_WEIGHTS, here;
    uint32_t count, k;
    const uint32_t *row = weft_graph_neighbours(graph, i, &count);
    weft_graph_sum sum = {0, 0};
    double share;
    if (i >= graph->workers) return 0;
    here = !present || present[i];
    share = own ? 0 : weft_graph_share(graph, mixing, i);
    for (k = 0; k < count; k++) {
        double w = 0, other;
        if (here && (!present || present[row[k]])) {
            if (own) {
                w = mixing->weight(mixing->ctx, i, row[k]);
            } else {
                other = weft_graph_share(graph, mixing, row[k]);
                w = other < share ? other : share;
            }
        }
        weft_graph_sum_add(&sum, w);
        if (weight) weight[k] = w;
    }
    if (own && here) return mixing->weight(mixing->ctx, i, i);
    return (1.0 - sum.sum) - sum.dropped;
}

WEFT_INLINE double weft_graph_weight(const weft_graph *graph, const weft_mixing *mixing, uint32_t i, uint32_t j) {
    const unsigned char *present = mixing ? mixing->present : NULL;
    double a, b;
    if (i == j) return weft_graph_row(graph, mixing, i, NULL);
    if (!weft_graph_has_edge(graph, i, j) || (present && (!present[i] || !present[j]))) return 0;
    if (mixing && mixing->rule == WEFT_OWN_WEIGHTS) return mixing->weight(mixing->ctx, i, j);
    a = weft_graph_share(graph, mixing, i);
    b = weft_graph_share(graph, mixing, j);
    return a < b ? a : b;
}

WEFT_INLINE uint64_t weft_graph_rounds(double gap, double factor) {
    double power[64], left = 1.0;
    uint64_t rounds = 0;
    int k, n;
    if (!(factor < 1)) return 0;
    if (!(gap > 0) || !(factor > 0)) return UINT64_MAX;
    power[0] = 1.0 - gap; /* its 2^k-th powers, up to the first that is small enough */
    for (n = 0; power[n] > factor; n++) {
        if (n == 63) return UINT64_MAX;
        power[n + 1] = power[n] * power[n];
    }
    for (k = n; k >= 0; k--) /* the most rounds that are not yet enough, and one */
        if (left * power[k] > factor) {
            left *= power[k];
            rounds += (uint64_t)1 << k;
        }
    return rounds + 1;
}
/*==== IMPLEMENTATION ====*/

/* Is this a graph that an object of so many workers may use? */
WEFT_FN weft_status weft_graph_check(const weft_graph *g, uint32_t workers, weft_detail *d) {
    if (!g) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("graph"), 1, 0);
    if (g->struct_size != sizeof *g)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("graph.struct_size"), sizeof *g, g->struct_size);
    if (g->workers == 0)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("graph (not made)"), workers ? workers : 1, 0);
    if (g->workers != workers)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("graph.workers"), workers, g->workers);
    return WEFT_OK;
}

/* For the fingerprint: have two workers the same graph? */
WEFT_FN uint64_t weft_graph_hash(const weft_graph *g) {
    uint64_t h = weft_graph_draw(g->workers, g->edges);
    uint32_t i;
    for (i = 0; i < g->edges; i++) {
        weft_edge e = weft_graph_edge(g, i);
        h = weft_graph_draw(h, (uint64_t)e.a << 32 | e.b);
    }
    return h;
}

/* ---- The doctor ----
 *
 * The eigenvalues: Lanczos' iteration in the space of what sums to zero, on the matrix that is never formed, from a
 * start drawn from the generator. It is the power iteration that remembers: where that needs some 1 / gap steps, a
 * hundred million on a ring of 10,000, this needs about as many as the graph is wide. Vectors are not made orthogonal
 * to all before them, which costs steps and brings copies of eigenvalues, but no wrong ones. */

#define WEFT_DOCTOR_EXACT 1e-12   /* what an eigenvalue is wanted to, and the least gap that is one */
#define WEFT_DOCTOR_STEPS 65536u  /* of the iteration, at most; 4 a worker in small graphs */
#define WEFT_DOCTOR_CARELESS 1e-9 /* errors of the host's own weights that are taken for roundings */

typedef struct weft_doctor {
    const weft_graph *graph;
    const weft_mixing *mixing;
    const unsigned char *here; /* or NULL */
    uint32_t workers, present, limit, steps;
    double *share, *own;         /* of each worker: what it can give, what it keeps */
    double *before, *now, *next; /* Lanczos' vectors */
    double *diagonal, *beside;   /* of the small matrix: beside[k] between k and k + 1 */
    uint32_t *label, *distance, *queue;
} weft_doctor;

WEFT_FN const char *weft_doctor_text(weft_graph_verdict verdict) {
#ifdef WEFT_NO_STRINGS
    (void)verdict;
    return "";
#else
    switch (verdict) {
    case WEFT_GRAPH_SOUND: return "sound: symmetric, doubly stochastic, connected, and it mixes in good time";
    case WEFT_GRAPH_NOT_FINITE: return "bad: a weight is not finite";
    case WEFT_GRAPH_NEGATIVE: return "bad: a weight is negative";
    case WEFT_GRAPH_NOT_SYMMETRIC: return "bad: two neighbours weigh each other differently, so the mean may move";
    case WEFT_GRAPH_ROW_SUM: return "bad: a worker's weights do not add up to 1, so the mean moves";
    case WEFT_GRAPH_PARTED: return "bad: not connected, the parts never hear of each other";
    case WEFT_GRAPH_SWINGS:
        return "bad: two halves exchange their values for ever; give workers a weight on themselves";
    case WEFT_GRAPH_STANDS_STILL: return "bad: no spectral gap, weights of 0 part the graph";
    case WEFT_GRAPH_SLOW: return "poor: news takes very many rounds to get around; add edges far across";
    case WEFT_GRAPH_HUB: return "poor: one worker has far more neighbours than most; it carries their traffic";
    case WEFT_GRAPH_THREAD: return "poor: a worker hangs on one edge, whose loss parts it from all";
    }
    return "unknown verdict";
#endif
}

WEFT_FN int weft_doctor_here(const weft_doctor *d, uint32_t i) {
    return !d->here || d->here[i];
}

/* Of neighbours that are both there. */
WEFT_FN double weft_doctor_weight(const weft_doctor *d, uint32_t i, uint32_t j) {
    if (d->mixing && d->mixing->rule == WEFT_OWN_WEIGHTS) return d->mixing->weight(d->mixing->ctx, i, j);
    return d->share[i] < d->share[j] ? d->share[i] : d->share[j];
}

/* Rows, symmetry, degrees. */
WEFT_FN void weft_doctor_weights(weft_doctor *d, weft_doctor_report *r) {
    const weft_graph *g = d->graph;
    int own = d->mixing && d->mixing->rule == WEFT_OWN_WEIGHTS, finite = 1;
    uint32_t i, k, worst_symmetry = WEFT_NO_RANK, worst_row = WEFT_NO_RANK, worst_weight = WEFT_NO_RANK;
    uint64_t first = 1;
    for (i = 0; i < d->workers; i++) d->share[i] = own ? 0 : weft_graph_share(g, d->mixing, i);
    for (i = 0; i < d->workers; i++) {
        weft_graph_sum sum = {0, 0};
        double w, error;
        uint32_t degree = 0;
        if (!weft_doctor_here(d, i)) continue;
        for (k = g->offset[i];; k++) {
            uint32_t j = k < g->offset[i + 1] ? g->neighbour[k] : i; /* itself last, and that is the end */
            if (!weft_doctor_here(d, j)) continue;
            w = j == i && !own ? (1.0 - sum.sum) - sum.dropped : weft_doctor_weight(d, i, j);
            finite = finite && weft_is_finite(w);
            weft_graph_sum_add(&sum, w);
            if (first || w < r->least_weight) {
                r->least_weight = w;
                worst_weight = i;
                first = 0;
            }
            if (j == i) {
                d->own[i] = w;
                break;
            }
            degree++;
            if (j < i) continue;
            error = w - weft_doctor_weight(d, j, i);
            if (error < 0) error = -error;
            if (error > r->asymmetry) {
                r->asymmetry = error;
                worst_symmetry = i;
            }
        }
        error = (sum.sum - 1.0) + sum.dropped;
        if (error < 0) error = -error;
        if (error > r->row_error) {
            r->row_error = error;
            worst_row = i;
        }
        if (!d->present || degree < r->least_degree) r->least_degree = degree;
        if (!d->present || degree > r->most_degree) r->most_degree = degree;
        d->present++;
    }
    if (!finite) {
        r->verdict = WEFT_GRAPH_NOT_FINITE;
        r->asymmetry = r->row_error = r->least_weight = 0; /* nothing that can be compared */
    } else if (r->least_weight < -WEFT_DOCTOR_CARELESS) {
        r->verdict = WEFT_GRAPH_NEGATIVE;
        r->worst = worst_weight;
    } else if (r->asymmetry > WEFT_DOCTOR_CARELESS) {
        r->verdict = WEFT_GRAPH_NOT_SYMMETRIC;
        r->worst = worst_symmetry;
    } else if (r->row_error > WEFT_DOCTOR_CARELESS) {
        r->verdict = WEFT_GRAPH_ROW_SUM;
        r->worst = worst_row;
    }
}

/* The farthest worker from `from`, breadth first, and how far it is. */
WEFT_FN uint32_t weft_doctor_farthest(const weft_doctor *d, uint32_t from, uint32_t *far) {
    const weft_graph *g = d->graph;
    uint32_t i, k, head = 0, tail = 0;
    for (i = 0; i < d->workers; i++) d->distance[i] = WEFT_NO_RANK;
    d->distance[from] = 0;
    d->queue[tail++] = from;
    while (head < tail) {
        i = d->queue[head++];
        for (k = g->offset[i]; k < g->offset[i + 1]; k++) {
            uint32_t j = g->neighbour[k];
            if (!weft_doctor_here(d, j) || d->distance[j] != WEFT_NO_RANK) continue;
            d->distance[j] = d->distance[i] + 1;
            d->queue[tail++] = j;
        }
    }
    *far = d->distance[d->queue[tail - 1]];
    return d->queue[tail - 1];
}

/* Takes out of v what all workers have in common; returns the norm of the rest. */
WEFT_FN double weft_doctor_deflate(const weft_doctor *d, double *v) {
    double mean = 0, squares = 0;
    uint32_t i;
    for (i = 0; i < d->workers; i++) mean += v[i];
    mean /= d->present;
    for (i = 0; i < d->workers; i++) {
        v[i] = weft_doctor_here(d, i) ? v[i] - mean : 0;
        squares += v[i] * v[i];
    }
    return sqrt(squares);
}

/* How many eigenvalues of the small matrix of m rows lie below x (Sturm). */
WEFT_FN uint32_t weft_doctor_below(const weft_doctor *d, uint32_t m, double x) {
    uint32_t k, below = 0;
    double pivot = 1;
    for (k = 0; k < m; k++) {
        pivot = d->diagonal[k] - x - (k ? d->beside[k - 1] * d->beside[k - 1] / pivot : 0);
        if (pivot < 1e-300 && pivot > -1e-300) pivot = -1e-300;
        below += pivot < 0;
    }
    return below;
}

/* The lowest (which = 0) or highest (which = 1) eigenvalue of the small matrix, by bisection; all lie within +-2. */
WEFT_FN double weft_doctor_extreme(const weft_doctor *d, uint32_t m, int which) {
    double low = -2, high = 2, mid = 0;
    int i;
    for (i = 0; i < 64 && (mid = 0.5 * (low + high)) > low && mid < high; i++)
        if (weft_doctor_below(d, m, mid) > (which ? m - 1 : 0))
            high = mid;
        else
            low = mid;
    return mid;
}

/* How far at most the nearest eigenvalue of the large matrix is from this one of the small: the last element of its
 * unit eigenvector, times what the iteration would go on with. From the last row upwards, where elements grow. */
WEFT_FN double weft_doctor_residual(const weft_doctor *d, uint32_t m, double value) {
    double last = 1, after = 0, element = 1, squares = 1;
    uint32_t k;
    for (k = m - 1; k > 0; k--) {
        double before =
            ((value - d->diagonal[k]) * element - (k + 1 < m ? d->beside[k] * after : 0)) / d->beside[k - 1];
        after = element;
        element = before;
        squares += element * element;
        if (squares > 1e200) {
            element *= 1e-100;
            after *= 1e-100;
            last *= 1e-100;
            squares *= 1e-200;
        }
    }
    return d->beside[m - 1] * last / sqrt(squares);
}

WEFT_FN void weft_doctor_eigenvalues(weft_doctor *d, weft_doctor_report *r) {
    const weft_graph *g = d->graph;
    uint32_t i, k, m, check = 1;
    double norm, *turn;
    for (i = 0; i < d->workers; i++) {
        d->before[i] = 0;
        d->now[i] = weft_doctor_here(d, i) ? (double)(weft_graph_draw(1, i) >> 11) / 9007199254740992.0 : 0;
    }
    norm = weft_doctor_deflate(d, d->now);
    for (i = 0; i < d->workers; i++) d->now[i] /= norm;
    for (m = 1; m <= d->limit; m++) {
        double along = 0, high, low, other;
        for (i = 0; i < d->workers; i++) {
            double sum = 0;
            if (weft_doctor_here(d, i)) {
                sum = d->own[i] * d->now[i];
                for (k = g->offset[i]; k < g->offset[i + 1]; k++) {
                    uint32_t j = g->neighbour[k];
                    if (weft_doctor_here(d, j)) sum += weft_doctor_weight(d, i, j) * d->now[j];
                }
                if (m > 1) sum -= d->beside[m - 2] * d->before[i];
                along += sum * d->now[i];
            }
            d->next[i] = sum;
        }
        for (i = 0; i < d->workers; i++) d->next[i] -= along * d->now[i];
        norm = weft_doctor_deflate(d, d->next);
        d->diagonal[m - 1] = along;
        d->beside[m - 1] = norm;
        if (m == check || m == d->limit || norm < WEFT_DOCTOR_EXACT) {
            check = m + 1 + m / 8;
            high = weft_doctor_extreme(d, m, 1);
            low = weft_doctor_extreme(d, m, 0);
            r->steps = m;
            r->highest = high;
            r->lowest = low;
            r->accuracy = weft_doctor_residual(d, m, high > -low ? high : low);
            other = weft_doctor_residual(d, m, high > -low ? low : high);
            other += high > -low ? -low : high;
            if (norm < WEFT_DOCTOR_EXACT) break;
            if (r->accuracy <= WEFT_DOCTOR_EXACT && other <= (high > -low ? high : -low) + WEFT_DOCTOR_EXACT) break;
        }
        turn = d->before;
        d->before = d->now;
        d->now = d->next;
        d->next = turn;
        for (i = 0; i < d->workers; i++) d->now[i] /= norm;
    }
    r->gap = 1.0 - (r->highest > -r->lowest ? r->highest : -r->lowest);
}

/* What the weights let pass: is it one part, how wide, how fast, and how well built? */
WEFT_FN void weft_doctor_examine(weft_doctor *d, weft_doctor_report *r) {
    uint32_t i, first = 0, far = 0, near = 0;
    uint64_t ends = 0;
    weft_doctor_weights(d, r);
    r->present = d->present;
    r->parts = weft_graph_parts(d->graph, d->here, d->label);
    r->rounds = UINT64_MAX;
    while (!weft_doctor_here(d, first)) first++; /* somebody is */
    if (r->parts == 1) {
        i = weft_doctor_farthest(d, first, &near);
        weft_doctor_farthest(d, i, &far);
        r->diameter_least = far;
        r->diameter_most = 2 * (near < far ? near : far);
    }
    if (r->verdict == WEFT_GRAPH_SOUND && r->parts != 1) {
        r->verdict = WEFT_GRAPH_PARTED;
        for (i = first; i < d->workers && r->worst == WEFT_NO_RANK; i++)
            if (weft_doctor_here(d, i) && d->label[i] != first) r->worst = i;
    } else if (r->verdict == WEFT_GRAPH_SOUND) {
        r->gap = 1;
        if (d->present > 1) weft_doctor_eigenvalues(d, r);
        if (r->gap <= WEFT_DOCTOR_EXACT) {
            r->verdict = -r->lowest > r->highest ? WEFT_GRAPH_SWINGS : WEFT_GRAPH_STANDS_STILL;
            r->gap = 0;
        }
        r->rounds = weft_graph_rounds(r->gap, 1e-3);
    }
    if (r->verdict == WEFT_GRAPH_SOUND && (r->rounds > WEFT_DOCTOR_SLOW || r->accuracy > r->gap))
        r->verdict = WEFT_GRAPH_SLOW;
    for (i = 0; i < d->workers; i++) ends += weft_graph_degree_among(d->graph, d->here, i);
    if (r->verdict == WEFT_GRAPH_SOUND && (uint64_t)r->most_degree * d->present > WEFT_DOCTOR_HUB * ends)
        r->verdict = WEFT_GRAPH_HUB;
    if (r->verdict == WEFT_GRAPH_SOUND && r->least_degree == 1 && d->present > 2) r->verdict = WEFT_GRAPH_THREAD;
    for (i = 0; i < d->workers && r->worst == WEFT_NO_RANK; i++) {
        uint32_t degree = weft_graph_degree_among(d->graph, d->here, i);
        if (!weft_doctor_here(d, i)) continue;
        if ((r->verdict == WEFT_GRAPH_HUB && degree == r->most_degree) ||
            (r->verdict == WEFT_GRAPH_THREAD && degree == 1))
            r->worst = i;
    }
    r->text = weft_doctor_text(r->verdict);
}

/* With memory NULL: only adds up. */
WEFT_FN size_t weft_doctor_lay_out(weft_doctor *d, void *memory) {
    weft_layout l;
    memset(&l, 0, sizeof l);
    l.base = memory ? weft_align_memory(memory) : NULL;
    d->share = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->own = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->before = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->now = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->next = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->diagonal = (double *)weft_layout_take(&l, "", d->limit, sizeof(double));
    d->beside = (double *)weft_layout_take(&l, "", d->limit, sizeof(double));
    d->label = (uint32_t *)weft_layout_take(&l, "", d->workers, sizeof(uint32_t));
    d->distance = (uint32_t *)weft_layout_take(&l, "", d->workers, sizeof(uint32_t));
    d->queue = (uint32_t *)weft_layout_take(&l, "", d->workers, sizeof(uint32_t));
    return weft_layout_total(&l);
}

/* See the API above. */
WEFT_FN weft_status weft_graph_doctor(const weft_graph *graph, const weft_mixing *mixing, void *memory, size_t bytes,
                                      weft_doctor_report *report) {
    weft_doctor d;
    if (!report) return WEFT_ERR_ARGUMENT;
    memset(report, 0, sizeof *report);
    report->text = "";
    report->worst = WEFT_NO_RANK;
    report->detail = weft_detail_none();
    if (weft_graph_check(graph, graph ? graph->workers : 0, &report->detail) != WEFT_OK) return report->detail.status;
    if (mixing && (uint32_t)mixing->rule > WEFT_OWN_WEIGHTS)
        return weft_refuse(&report->detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("mixing.rule"), WEFT_OWN_WEIGHTS,
                           (uint64_t)mixing->rule);
    if (mixing && mixing->present) {
        size_t i = 0;
        while (i < graph->workers && !mixing->present[i]) i++;
        if (i == graph->workers)
            return weft_refuse(&report->detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("mixing.present (nobody)"), 1, 0);
    }
    if (mixing && mixing->rule == WEFT_OWN_WEIGHTS && !mixing->weight)
        return weft_refuse(&report->detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("mixing.weight"), 1, 0);
    memset(&d, 0, sizeof d);
    d.graph = graph;
    d.mixing = mixing;
    d.here = mixing ? mixing->present : NULL;
    d.workers = graph->workers;
    d.limit = graph->workers < WEFT_DOCTOR_STEPS / 4 ? 4 * graph->workers : WEFT_DOCTOR_STEPS;
    report->bytes = weft_doctor_lay_out(&d, memory);
    if (!report->bytes)
        return weft_refuse(&report->detail, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, graph->workers);
    if (!memory && !bytes) return WEFT_OK;
    if (!memory) return weft_refuse(&report->detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("memory"), report->bytes, 0);
    if (bytes < report->bytes)
        return weft_refuse(&report->detail, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), report->bytes, bytes);
    weft_doctor_examine(&d, report);
    return WEFT_OK;
}
