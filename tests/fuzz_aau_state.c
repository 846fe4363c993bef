/* SPDX-License-Identifier: MIT
 * libFuzzer: what a host reads from files before a run: saved state (dsgd_aau_load), and graphs (weft_graph_*). The
 * first byte chooses: even: a blob as it is (bit 1 not set), or how the contents differ from one that was saved (set:
 * nine bytes a number: which, and what is XORed; length, fingerprint and checksum fit); odd: a constructor and its
 * numbers, for an edge list the edges.
 *
 * What must hold for blobs: refused, and the object is as it was; or what is saved again is what was loaded; then the
 * worker takes its steps. For graphs: refused, with a name, and nothing can be read out of it; or its rows are
 * ascending, symmetric and connected, edges are numbered as they are listed, weights are symmetric and doubly
 * stochastic, whoever is present, and the doctor's numbers are finite. Measuring says beforehand what is needed, to the
 * byte. */
#define WEFT_NO_SIMD /* asking the processor takes longer than a run */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#include "aau_team.h"
#include "blob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = 256, NUMBERS = 10, HEAD = 24, TAIL = 4, CHANGE = 9, MOST_WORKERS = 64, MOST_EDGES = 600 };

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

/* ---- saved state ---- */

typedef struct blob {
    size_t bytes;
    unsigned char byte[ROOM];
} blob;

static void save(dsgd_aau *x, blob *b) {
    memset(b, 0, sizeof *b);
    need(dsgd_aau_save(x, b->byte, sizeof b->byte, &b->bytes) == WEFT_OK, "save");
}

static void load(aau *t, uint32_t rank, int made, const uint8_t *data, size_t size) {
    dsgd_aau *x = t->worker[rank].x;
    dsgd_aau_stats_t stats;
    blob before, after;
    unsigned char *exact;
    size_t bytes = size, i;
    weft_status s;
    weft_detail why;
    save(x, &before);
    need(before.bytes == HEAD + 8 * NUMBERS + TAIL, "another length");
    if (made) {
        bytes = before.bytes;
        exact = (unsigned char *)malloc(bytes);
        memcpy(exact, before.byte, bytes);
        for (i = 0; i + CHANGE <= size; i += CHANGE) {
            unsigned char *at = exact + HEAD + data[i] % NUMBERS * 8;
            weft_put64(at, weft_get64(at) ^ weft_get64(data + i + 1));
        }
        blob_seal(exact, bytes, weft_get64(before.byte + 8));
    } else {
        exact = (unsigned char *)malloc(bytes + 1) + 1; /* at the very end of its memory */
        memcpy(exact, data, bytes);
    }
    s = dsgd_aau_load(x, exact, bytes);
    why = *dsgd_aau_detail(x);
    save(x, &after);
    if (s != WEFT_OK) {
        need(s < 0 && why.status == s && why.field, "a refusal is an error that says why");
        need(memcmp(&before, &after, sizeof before) == 0, "a refused blob leaves traces");
        need((dsgd_aau_state(x) & DSGD_AAU_MAY_LOAD) != 0, "a refused blob ends the state of being fresh");
        need(!made, "a blob with a fitting checksum is refused");
    } else {
        need(bytes == after.bytes && memcmp(exact, after.byte, bytes) == 0, "what was loaded is not what is saved");
        dsgd_aau_stats(x, &stats);
        need(stats.steps == weft_get64(exact + HEAD), "steps");
        need(stats.epoch == 0 && stats.views == 0, "what is agreed is not what a blob says");
    }
    free(made ? exact : exact - 1);
}

static void blobs(const uint8_t *data, size_t size) {
    static const size_t count[2] = {3, 2};
    weft_graph g;
    void *m = aau_graph(&g, data[0] & 4 ? AAU_RING : AAU_COMPLETE, 2 + (data[0] >> 3 & 1u), 0);
    aau_desc d = aau_default(1, &g);
    dsgd_aau_stats_t before, after;
    aau t;
    d.tensors = 2;
    d.count = count;
    d.steps = 2;
    d.d.isa = WEFT_ISA_SERIAL;
    need(aau_open(&t, &d), "open");
    load(&t, 0, data[0] >> 1 & 1, data + 1, size - 1);
    if (data[0] & 16) load(&t, 1, data[0] >> 1 & 1, data + 1, size - 1);
    dsgd_aau_stats(t.worker[0].x, &before);
    need(aau_run(&t) && aau_conserved(&t), t.why);
    dsgd_aau_stats(t.worker[0].x, &after);
    need(after.steps == before.steps + 2, "steps are not counted on");
    need(aau_close(&t), t.why);
    free(m);
}

/* ---- graphs ---- */

static void refused(const weft_graph *g, weft_status s) {
    weft_detail d = g->detail;
    need(s < 0 && d.status == s && d.field, "a refusal is an error that says why");
    need(g->workers == 0 && g->edges == 0 && !g->neighbour, "a graph that was refused is none");
    need(weft_graph_degree(g, 0) == 0 && !weft_graph_has_edge(g, 0, 1), "nothing can be read out of it");
}

static double at(const double *w, uint32_t n, uint32_t i, uint32_t j) {
    return w[(size_t)i * n + j];
}

static void weights(const weft_graph *g, const weft_mixing *m) {
    static double w[MOST_WORKERS * MOST_WORKERS], row[MOST_WORKERS];
    const uint32_t n = g->workers;
    uint32_t i, j, k;
    for (i = 0; i < n; i++) {
        const double own = weft_graph_row(g, m, i, row);
        double sum = 0;
        uint32_t count;
        const uint32_t *to = weft_graph_neighbours(g, i, &count);
        for (j = 0; j < n; j++) {
            w[(size_t)i * n + j] = weft_graph_weight(g, m, i, j);
            need(at(w, n, i, j) >= 0 && at(w, n, i, j) <= 1, "a weight out of range");
            sum += at(w, n, i, j);
        }
        need(fabs(sum - 1) < 1e-14, "a row that does not add up to 1");
        need(at(w, n, i, i) == own && own > 0, "a worker's own weight");
        for (k = 0; k < count; k++) need(at(w, n, i, to[k]) == row[k], "a row and its weights differ");
    }
    for (i = 0; i < n; i++)
        for (j = 0; j < n; j++) need(at(w, n, i, j) == at(w, n, j, i), "weights that are not symmetric");
}

static void examine(const weft_graph *g, const uint8_t *data, size_t size) {
    static unsigned char memory[1 << 16];
    unsigned char present[MOST_WORKERS];
    uint32_t label[MOST_WORKERS], who[MOST_WORKERS], i, k, n, e = 0, there = 0;
    double w[16 * 16];
    weft_doctor_report r;
    weft_mixing m;
    need(weft_graph_connected(g, NULL, label) && weft_graph_parts(g, NULL, label) == 1, "not connected");
    for (i = 0; i < g->workers; i++) {
        const uint32_t *to = weft_graph_neighbours(g, i, &n);
        need(n >= g->least_degree && n <= g->most_degree && n == weft_graph_degree(g, i), "a degree");
        for (k = 0; k < n; k++) {
            need(to[k] < g->workers && to[k] != i && (!k || to[k] > to[k - 1]), "a row that is not ascending");
            need(weft_graph_slot(g, i, to[k]) == k && weft_graph_has_edge(g, to[k], i), "an edge has one end");
            if (to[k] < i) continue;
            need(weft_graph_edge_index(g, i, to[k]) == e && weft_graph_edge_index(g, to[k], i) == e, "its number");
            need(weft_graph_edge(g, e).a == i && weft_graph_edge(g, e).b == to[k], "an edge by its number");
            e++;
        }
    }
    need(e == g->edges, "edges that are missing");
    need(weft_graph_edge(g, e).a == WEFT_NO_RANK && weft_graph_degree(g, g->workers) == 0, "what is not there");
    memset(&m, 0, sizeof m);
    m.rule = size && data[0] & 1 ? WEFT_UNIFORM : WEFT_METROPOLIS;
    weights(g, &m);
    for (i = 0; i < g->workers; i++) {
        present[i] = size < 2 || data[1 + i % (size - 1)] >> (i / (size - 1)) % 8 & 1;
        if (present[i]) who[there++] = i;
    }
    m.present = present;
    weights(g, &m);
    weft_graph_parts(g, present, label);
    for (i = 0; i < g->workers; i++)
        need(present[i] ? label[i] <= i && label[label[i]] == label[i] : label[i] == WEFT_NO_RANK, "a label");
    if (there && there <= 16) {
        need(dsgd_aau_weights(g, who, there, w) == WEFT_OK, "weights among those who take part");
        for (i = 0; i < there; i++)
            for (k = 0; k < there; k++) {
                weft_mixing metropolis = m;
                metropolis.rule = WEFT_METROPOLIS;
                need(fabs(w[i * there + k] - weft_graph_weight(g, &metropolis, who[i], who[k])) < 1e-14, "two rules");
            }
    }
    need(weft_graph_doctor(g, &m, NULL, 0, &r) == WEFT_OK || !there, "the doctor does not measure");
    if (there && r.bytes <= sizeof memory) {
        need(weft_graph_doctor(g, &m, memory, r.bytes, &r) == WEFT_OK, "the doctor refuses");
        need(r.present == there && r.gap >= 0 && r.gap <= 1.0 + 1e-9 && r.asymmetry == 0, "the doctor's report");
        need(r.row_error < 1e-14 && isfinite(r.accuracy) && r.text && r.parts >= 1, "the doctor's report");
        need((r.verdict == WEFT_GRAPH_PARTED) == (r.parts != 1), "the doctor does not see parts");
    }
    /* everybody available: all edges that join two parts, in ascending order: a tree */
    memset(present, 1, sizeof present);
    for (i = 0; i < g->workers; i++) label[i] = i;
    need(dsgd_aau_pathsearch(g, present, label, NULL, 0) == g->workers - 1, "a tree has another number of edges");
    for (i = 0; i < g->workers; i++) need(label[i] == 0, "not all are one part");
}

static weft_status construct(weft_graph *g, const uint8_t *data, const weft_edge *edge, size_t count, void *memory,
                             size_t bytes) {
    const uint32_t a = weft_get32(data + 1), b = weft_get32(data + 5);
    const uint64_t bits = weft_get64(data + 9);
    double p;
    memcpy(&p, &bits, sizeof p);
    switch (data[0] >> 1 & 15) {
    case 0: return weft_graph_ring(g, a, memory, bytes);
    case 1: return weft_graph_chain(g, a, memory, bytes);
    case 2: return weft_graph_star(g, a, memory, bytes);
    case 3: return weft_graph_complete(g, a, memory, bytes);
    case 4: return weft_graph_torus(g, a, b, memory, bytes);
    case 5: return weft_graph_hypercube(g, a, memory, bytes);
    case 6: return weft_graph_exponential(g, a, memory, bytes);
    case 7: return weft_graph_erdos_renyi(g, a, p, b, memory, bytes);
    case 8: return weft_graph_small_world(g, a, b, p, bits, memory, bytes);
    default: return weft_graph_from_edges(g, a, edge, count, memory, bytes);
    }
}

enum { NUMBERS_OF_GRAPH = 17, EDGE = 2 };

static void graphs(const uint8_t *data, size_t size) {
    static weft_edge edge[MOST_EDGES];
    weft_graph g, again;
    weft_status s, made;
    size_t count = 0, i, bytes;
    unsigned char *memory;
    if (size < NUMBERS_OF_GRAPH) return;
    for (i = NUMBERS_OF_GRAPH; i + EDGE <= size && count < MOST_EDGES; i += EDGE, count++) {
        edge[count].a = data[i] < 250 ? data[i] : UINT32_MAX - (255u - data[i]);
        edge[count].b = data[i + 1] < 250 ? data[i + 1] : UINT32_MAX - (255u - data[i + 1]);
    }
    s = construct(&g, data, edge, count, NULL, 0);
    if (s != WEFT_OK) {
        refused(&g, s);
        return;
    }
    need(g.workers == 0 && g.bytes > 0, "measuring makes no graph");
    bytes = g.bytes;
    if (bytes > 40000) return; /* nothing is built of what a host would not want to wait for */
    if ((data[0] >> 1 & 15) != 4 && (data[0] >> 1 & 15) != 5 && weft_get32(data + 1) > 2000) return;
    memory = (unsigned char *)malloc(bytes + 1);
    made = construct(&again, data, edge, count, memory + 1, bytes - 1);
    need(made == WEFT_ERR_MEMORY, "a byte less than it needs");
    made = construct(&g, data, edge, count, memory + 1, bytes); /* at an odd address, to the end of its memory */
    if (made != WEFT_OK) { /* no draw is connected, or an edge list that is not */
        refused(&g, made);
    } else if (g.workers <= MOST_WORKERS) {
        need(g.bytes == bytes, "another size");
        examine(&g, data + NUMBERS_OF_GRAPH, size - NUMBERS_OF_GRAPH);
    }
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 2048) return 0;
    if (data[0] & 1)
        graphs(data, size);
    else
        blobs(data, size);
    if (size >= 17) { /* any numbers at all */
        const uint32_t n = weft_get32(data + 1), i = weft_get32(data + 5);
        const uint32_t peer = weft_graph_one_peer(n, weft_get64(data + 9), i);
        double gap, factor;
        need(i >= n ? peer == WEFT_NO_RANK : peer < n && weft_graph_one_peer(n, weft_get64(data + 9), peer) == i,
             "a peer's peer");
        memcpy(&gap, data + 1, sizeof gap);
        memcpy(&factor, data + 9, sizeof factor);
        weft_graph_rounds(gap, factor);
    }
    return 0;
}
