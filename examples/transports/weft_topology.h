/* SPDX-License-Identifier: MIT
 * weft_topology.h: a graph by its name, for command lines. Include it after a weft header that has graphs (dsgd_aau.h).
 *
 *     weft_graph graph;
 *     char why[160];
 *     char why[240];
 *     void *memory = weft_topology_make("er:0.3", workers, seed, &graph, why, sizeof why);
 *     if (!memory) complain(why);                      // names what is there and what is expected
 *     ...
 *     free(memory);                                    // after the last object that uses the graph */
#ifndef WEFT_TOPOLOGY_H
#define WEFT_TOPOLOGY_H

#ifndef WEFT_GRAPH_BYTES
#error "include dsgd_aau.h before weft_topology.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEFT_TOPOLOGY_NAMES                                                                                            \
    "ring, chain, star, complete, torus, torus:ROWSxCOLUMNS, hypercube, exponential, er:PROBABILITY, "                 \
    "small:DEGREE:REWIRED"

typedef enum weft_topology_kind {
    WEFT_TOPOLOGY_RING,
    WEFT_TOPOLOGY_CHAIN,
    WEFT_TOPOLOGY_STAR,
    WEFT_TOPOLOGY_COMPLETE,
    WEFT_TOPOLOGY_TORUS,
    WEFT_TOPOLOGY_HYPERCUBE,
    WEFT_TOPOLOGY_EXPONENTIAL,
    WEFT_TOPOLOGY_ERDOS_RENYI,
    WEFT_TOPOLOGY_SMALL_WORLD,
    WEFT_TOPOLOGY_KINDS
} weft_topology_kind;

typedef struct weft_topology {
    weft_topology_kind kind;
    uint32_t workers, rows, columns, degree, dimensions;
    double probability;
} weft_topology;

/* A whole number that ends at `end`; NULL if it is none, or too large. */
WEFT_FN const char *weft_topology_whole(const char *text, char end, uint32_t *out) {
    uint64_t v = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && v <= UINT32_MAX; at++) v = v * 10 + (uint64_t)(*at - '0');
    if (at == text || v > UINT32_MAX || *at != end) return NULL;
    *out = (uint32_t)v;
    return at;
}

/* A fraction in 0 .. 1 that ends the text. */
WEFT_FN int weft_topology_fraction(const char *text, double *out) {
    char *end;
    if (!((*text >= '0' && *text <= '9') || *text == '.')) return 0;
    *out = strtod(text, &end);
    return *end == 0 && *out >= 0.0 && *out <= 1.0;
}

WEFT_FN weft_status weft_topology_build(const weft_topology *t, uint64_t seed, weft_graph *graph, void *memory,
                                        size_t bytes) {
    switch (t->kind) {
    case WEFT_TOPOLOGY_RING: return weft_graph_ring(graph, t->workers, memory, bytes);
    case WEFT_TOPOLOGY_CHAIN: return weft_graph_chain(graph, t->workers, memory, bytes);
    case WEFT_TOPOLOGY_STAR: return weft_graph_star(graph, t->workers, memory, bytes);
    case WEFT_TOPOLOGY_COMPLETE: return weft_graph_complete(graph, t->workers, memory, bytes);
    case WEFT_TOPOLOGY_TORUS: return weft_graph_torus(graph, t->rows, t->columns, memory, bytes);
    case WEFT_TOPOLOGY_HYPERCUBE: return weft_graph_hypercube(graph, t->dimensions, memory, bytes);
    case WEFT_TOPOLOGY_EXPONENTIAL: return weft_graph_exponential(graph, t->workers, memory, bytes);
    case WEFT_TOPOLOGY_ERDOS_RENYI:
        return weft_graph_erdos_renyi(graph, t->workers, t->probability, seed, memory, bytes);
    default: return weft_graph_small_world(graph, t->workers, t->degree, t->probability, seed, memory, bytes);
    }
}

/* Fills in *t from a name for so many workers. 0: refused, and `why` says why. */
WEFT_FN int weft_topology_parse(weft_topology *t, const char *text, uint32_t workers, char *why, size_t capacity) {
    static const char *const name[WEFT_TOPOLOGY_KINDS] = {"ring",      "chain",       "star", "complete", "torus",
                                                          "hypercube", "exponential", "er",   "small"};
    const size_t length = strcspn(text, ":");
    const char *value = text[length] == ':' ? text + length + 1 : NULL, *at;
    int ok = 1;
    memset(t, 0, sizeof *t);
    t->workers = workers;
    for (; t->kind < WEFT_TOPOLOGY_KINDS; t->kind = (weft_topology_kind)(t->kind + 1))
        if (strlen(name[t->kind]) == length && strncmp(name[t->kind], text, length) == 0) break;
    switch (t->kind) {
    case WEFT_TOPOLOGY_TORUS:
        if (!value) { /* as square as it can be */
            for (t->rows = 1; (uint64_t)(t->rows + 1) * (t->rows + 1) <= workers; t->rows++) continue;
            while (workers % t->rows) t->rows--;
            t->columns = workers / t->rows;
            break;
        }
        at = weft_topology_whole(value, 'x', &t->rows);
        ok = at && weft_topology_whole(at + 1, 0, &t->columns);
        if (ok && (uint64_t)t->rows * t->columns != workers) {
            snprintf(why, capacity, "expected a torus of %lu workers, got %lux%lu", (unsigned long)workers,
                     (unsigned long)t->rows, (unsigned long)t->columns);
            return 0;
        }
        break;
    case WEFT_TOPOLOGY_HYPERCUBE:
        while (t->dimensions < 31 && UINT32_C(1) << t->dimensions < workers) t->dimensions++;
        if (!value && UINT32_C(1) << t->dimensions != workers) {
            snprintf(why, capacity, "expected a power of two of workers for a hypercube, got %lu",
                     (unsigned long)workers);
            return 0;
        }
        ok = !value;
        break;
    case WEFT_TOPOLOGY_ERDOS_RENYI: ok = value && weft_topology_fraction(value, &t->probability); break;
    case WEFT_TOPOLOGY_SMALL_WORLD:
        at = value ? weft_topology_whole(value, ':', &t->degree) : NULL;
        ok = at && weft_topology_fraction(at + 1, &t->probability);
        break;
    case WEFT_TOPOLOGY_KINDS: ok = 0; break;
    default: ok = !value; break;
    }
    if (!ok) snprintf(why, capacity, "expected one of %s, got '%.40s'", WEFT_TOPOLOGY_NAMES, text);
    return ok;
}

/* The graph, in memory from malloc, which is returned; NULL: refused, and `why` says why. */
WEFT_FN void *weft_topology_make(const char *text, uint32_t workers, uint64_t seed, weft_graph *graph, char *why,
                                 size_t capacity) {
    weft_topology t;
    weft_status s;
    void *memory = NULL;
    if (!weft_topology_parse(&t, text, workers, why, capacity)) return NULL;
    s = weft_topology_build(&t, seed, graph, NULL, 0);
    if (s == WEFT_OK) {
        memory = malloc(graph->bytes);
        s = memory ? weft_topology_build(&t, seed, graph, memory, graph->bytes) : WEFT_ERR_MEMORY;
    }
    if (s == WEFT_OK) return memory;
    snprintf(why, capacity, "'%.40s' for %lu workers: %s (%s: expected %llu, got %llu)", text, (unsigned long)workers,
             weft_strerror(s), graph->detail.field ? graph->detail.field : "memory",
             (unsigned long long)graph->detail.expected, (unsigned long long)graph->detail.got);
    free(memory);
    return NULL;
}

#endif /* WEFT_TOPOLOGY_H */
