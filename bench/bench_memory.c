/* SPDX-License-Identifier: MIT
 * bench-memory: how much memory each algorithm takes beside the host's parameters and gradients, asked of X_memory, as
 * a function of the number of parameters d, of workers N and of neighbours k. Nothing is run. */
#define GRAWA_IMPLEMENTATION
#include "grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "subspace.h"
#define DSGD_AAU_IMPLEMENTATION
#include "dsgd_aau.h"
#define HPSGD_IMPLEMENTATION
#include "hpsgd.h"
#define SADDLE_IMPLEMENTATION
#include "saddle.h"
#include "transports/weft_threads.h"

#include "options.h"
#include "report.h"
#include "table.h"

enum { MOST_WORKERS = 64, SMALL = 1024, SIZES = 2 };

/* Bytes are a d + b between these two sizes, so that their difference tells a. */
static const size_t size_of[SIZES] = {12800000, 25600000};

/* What a row asks about. The parameters are described, but never looked at. */
typedef struct job {
    weft_tensor tensor;
    weft_tensors tensors;
    weft_transport net;
    const weft_graph *graph;
} job;

static void must(int right, const char *what) {
    if (right) return;
    fprintf(stderr, "bench-memory: %s\n", what);
    exit(1);
}

static size_t told(size_t bytes, const weft_memory_report *r) {
    if (bytes) return bytes;
    fprintf(stderr, "bench-memory: refused: %s\n", weft_strerror(r->detail.status));
    exit(1);
}

static size_t ask_grawa(const job *j, int setting) {
    grawa_desc d = {.struct_size = sizeof d, .params = j->tensors};
    weft_memory_report r;
    d.transport = &j->net;
    d.weighting = setting ? GRAWA_BY_LAYER : GRAWA_BY_MODEL;
    return told(grawa_memory(&d, &r), &r);
}

static size_t ask_subspace(const job *j, int setting) {
    subspace_desc d = {.struct_size = sizeof d, .gradients = j->tensors};
    weft_memory_report r;
    d.transport = &j->net;
    d.plan = setting < 2 ? SUBSPACE_PLAN_EXCHANGE : SUBSPACE_PLAN_SHARED;
    d.in_place = setting % 2;
    d.momentum = 0.99;
    return told(subspace_memory(&d, &r), &r);
}

static size_t ask_aau(const job *j, int setting) {
    dsgd_aau_desc d = {.struct_size = sizeof d, .params = j->tensors};
    weft_memory_report r;
    d.transport = &j->net;
    d.graph = j->graph;
    d.fan = setting ? 1 : 0;
    return told(dsgd_aau_memory(&d, &r), &r);
}

static size_t ask_hpsgd(const job *j, int setting) {
    hpsgd_desc d = {.struct_size = sizeof d, .params = j->tensors};
    weft_memory_report r;
    d.transport = &j->net;
    if (setting == 1) d.keep_delta = WEFT_ZERO;
    if (setting == 2) d.payload = HPSGD_PAYLOAD_BF16;
    return told(hpsgd_memory(&d, &r), &r);
}

static size_t ask_saddle(const job *j, int setting) {
    static const saddle_variant variant[] = {SADDLE_DPSGD, SADDLE_QGM, SADDLE_Q, SADDLE_Q,
                                             SADDLE_NGC,   SADDLE_N,   SADDLE_N};
    saddle_desc d = {.struct_size = sizeof d, .params = j->tensors};
    weft_memory_report r;
    d.transport = &j->net;
    d.graph = j->graph;
    d.variant = variant[setting];
    d.rho = d.variant == SADDLE_Q || d.variant == SADDLE_N ? 0.05 : 0;
    d.learning_rate = 0.1;
    if (setting == 3 || setting == 6) d.codec = weft_codec_q8();
    return told(saddle_memory(&d, &r), &r);
}

static const struct {
    const char *header, *what;
    size_t (*ask)(const job *, int);
    int setting, graph; /* graph: k neighbours, not N workers, is what counts */
} rows[] = {
    {"grawa.h", "MGRAWA", ask_grawa, 0, 0},
    {"grawa.h", "LGRAWA", ask_grawa, 1, 0},
    {"subspace.h", "AdaCons, messages", ask_subspace, 0, 0},
    {"subspace.h", "AdaCons, messages, in place", ask_subspace, 1, 0},
    {"subspace.h", "AdaCons, shared memory", ask_subspace, 2, 0},
    {"subspace.h", "AdaCons, shared memory, in place", ask_subspace, 3, 0},
    {"hpsgd.h", "HPSGD", ask_hpsgd, 0, 0},
    {"hpsgd.h", "HPSGD, keep_delta off", ask_hpsgd, 1, 0},
    {"hpsgd.h", "HPSGD, bf16 on the wire", ask_hpsgd, 2, 0},
    {"dsgd_aau.h", "DSGD-AAU", ask_aau, 0, 1},
    {"dsgd_aau.h", "DSGD-AAU, pairs only", ask_aau, 1, 1},
    {"saddle.h", "D-PSGD", ask_saddle, 0, 1},
    {"saddle.h", "QGM", ask_saddle, 1, 1},
    {"saddle.h", "Q-SADDLe", ask_saddle, 2, 1},
    {"saddle.h", "Q-SADDLe, q8", ask_saddle, 3, 1},
    {"saddle.h", "NGC", ask_saddle, 4, 1},
    {"saddle.h", "N-SADDLe", ask_saddle, 5, 1},
    {"saddle.h", "N-SADDLe, q8", ask_saddle, 6, 1},
};
enum { ROWS = sizeof rows / sizeof *rows };

static size_t ask(size_t row, size_t d, uint32_t workers, const weft_graph *graph) {
    static float one; /* no address of it is ever read */
    static weft_threads_team threads;
    job j;
    size_t bytes;
    must(weft_threads_init(&threads, workers) == WEFT_OK, "weft_threads_init");
    weft_threads_transport(&threads, 0, &j.net);
    j.tensor.data = &one;
    j.tensor.count = d;
    j.tensor.dtype = WEFT_F32;
    j.tensors.tensor = &j.tensor;
    j.tensors.count = 1;
    j.graph = graph;
    bytes = rows[row].ask(&j, rows[row].setting);
    weft_threads_free(&threads);
    return bytes;
}

/* One place of a row: copies of the model, what is left beside them, and the whole for a small model. */
static void cells(table *t, report *r, size_t row, uint32_t workers, const weft_graph *graph) {
    const size_t low = ask(row, size_of[0], workers, graph), high = ask(row, size_of[1], workers, graph);
    const size_t small = ask(row, SMALL, workers, graph);
    const double slope = (double)(high - low) / (double)(size_of[1] - size_of[0]);
    const double rest = (double)high - slope * (double)size_of[1];
    json *j = &r->rows;
    table_cell(t, "%.2f", slope / 4);
    table_cell(t, "%.1f", rest / 1024);
    table_cell(t, "%.1f", (double)small / 1024);
    json_line_begin(j);
    json_text(j, "bench", "memory");
    json_text(j, "header", rows[row].header);
    json_text(j, "setting", rows[row].what);
    json_integer(j, "workers", workers);
    json_integer(j, "neighbours", graph ? weft_graph_degree(graph, 0) : workers - 1);
    json_number(j, "bytes_a_parameter", slope);
    json_number(j, "bytes_beside", rest);
    json_integer(j, "bytes_of_1024_parameters", (long long)small);
    json_line_end(j);
}

#define PLACE(name) "|>" name ": copies|>and KiB|>d = 1024, KiB"

static void run(report *r) {
    static const uint32_t workers[] = {4, 16, MOST_WORKERS};
    static char memory[1 << 20];
    table *all = table_new("header|setting" PLACE("N = 4") PLACE("N = 16") PLACE("N = 64"));
    table *graphs = table_new("header|setting" PLACE("k = 2") PLACE("k = 4") PLACE("k = 15"));
    weft_graph g[3];
    size_t row, i;
    must(weft_graph_ring(&g[0], 16, memory, 1 << 18) == WEFT_OK, "ring");
    must(weft_graph_torus(&g[1], 4, 4, memory + (1 << 18), 1 << 18) == WEFT_OK, "torus");
    must(weft_graph_complete(&g[2], 16, memory + (1 << 19), 1 << 18) == WEFT_OK, "complete graph");
    for (row = 0; row < ROWS; row++) {
        table *t = rows[row].graph ? graphs : all;
        table_row(t);
        table_cell(t, "%s", rows[row].header);
        table_cell(t, "%s", rows[row].what);
        for (i = 0; i < 3; i++) cells(t, r, row, rows[row].graph ? 16 : workers[i], rows[row].graph ? &g[i] : NULL);
    }
    report_say(r, "## Rules in which all N workers take part\n\n");
    table_print(all, r);
    report_say(r, "## Rules on a graph: 16 workers with k neighbours each\n\n");
    table_print(graphs, r);
}

int main(int argc, char **argv) {
    const char *rows_at = NULL, *v;
    options o = {argc, 1, argv};
    report r;
    while (o.at < argc) {
        if (option_switch(&o, "--help")) {
            puts("bench-memory [options]\n"
                 "  --json FILE      rows as JSON lines into FILE, the report beside it as .md");
            return 0;
        }
        if ((v = option_value(&o, "--json")))
            rows_at = v;
        else {
            fprintf(stderr, "bench-memory: what is '%s'? (--help)\n", argv[o.at]);
            return 2;
        }
    }
    report_open(&r, rows_at);
    report_say(
        &r,
        "# Memory\n\n- Written by `make bench-memory`: what X_memory says of %zu and of %zu float parameters.\n\n"
        "Beside the host's own parameters and gradients an object takes so many copies of the model, and so "
        "many KiB\nwhatever the model's size; and, all in all, so many KiB for a model of %d parameters "
        "(%.0f KiB).\n\n",
        size_of[0], size_of[1], SMALL, SMALL * 4 / 1024.0);
    run(&r);
    report_close(&r);
    return 0;
}
