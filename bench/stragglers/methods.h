/* SPDX-License-Identifier: MIT
 * methods.h: the rules that a study compares, by name, and the graph that they all run on. */
#ifndef STRAGGLERS_METHODS_H
#define STRAGGLERS_METHODS_H

#include "ideal.h"
#include "protocol.h"

typedef enum method { AAU_IDEAL, AAU_PROTOCOL, DSGD, ADPSGD, PRAGUE, AGP, METHODS } method;

static const char *const method_name[METHODS] = {"DSGD-AAU, ideal",    "DSGD-AAU, protocol", "DSGD",
                                                 "AD-PSGD, idealised", "Prague-like",        "AGP-like"};
static const char *const method_short[METHODS] = {"AAU, ideal", "AAU, protocol", "DSGD", "AD-PSGD", "Prague", "AGP"};
static const char *const method_key[METHODS] = {"aau", "protocol", "dsgd", "adpsgd", "prague", "agp"};

static inline void method_run(method m, const trial *t, outcome *out) {
    const network net = network_default();
    switch (m) {
    case AAU_IDEAL: ideal_aau(t, out); break;
    case AAU_PROTOCOL: run_protocol(t, &net, out); break;
    case DSGD: ideal_dsgd(t, out); break;
    case ADPSGD: ideal_adpsgd(t, out); break;
    case PRAGUE: ideal_prague(t, out); break;
    default: ideal_agp(t, out); break;
    }
}

/* Erdos-Renyi, drawn until connected; free(memory). */
static inline void *graph_open(weft_graph *g, uint32_t workers, uint64_t seed) {
    const double probability = workers <= 4 ? 0.6 : workers < 16 ? 0.4 : 0.25;
    void *memory;
    if (workers == 1) {
        weft_graph_chain(g, 1, NULL, 0);
        memory = new_array(g->bytes, 1);
        weft_graph_chain(g, 1, memory, g->bytes);
        return memory;
    }
    weft_graph_erdos_renyi(g, workers, probability, seed, NULL, 0);
    memory = new_array(g->bytes, 1);
    if (weft_graph_erdos_renyi(g, workers, probability, seed, memory, g->bytes) != WEFT_OK)
        broken("no connected graph of %u workers in %u draws", workers, WEFT_GRAPH_DRAWS);
    return memory;
}

/* U(0.9, 1.1) seconds a gradient. */
static inline weft_pace pace_of(double probability, double slowdown) {
    weft_pace p = weft_pace_default();
    p.kind = WEFT_PACE_UNIFORM;
    p.spread = 0.1;
    p.probability = probability;
    p.slowdown = slowdown;
    return p;
}

#endif
