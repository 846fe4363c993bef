/* SPDX-License-Identifier: MIT
 * budget.c: what the five headers need of a microcontroller: the memory of each with its preset, for a model of 1,024
 * parameters and two neighbours (where all workers make a group: one other worker), buffer by buffer; what a saved state in pieces costs; and how many instructions the
 * exact sums take on a processor without doubles. Prints lines that ./run makes tables of. */
#define GRAWA_IMPLEMENTATION
#define GRAWA_STATIC
#include "grawa.h"
#define SUBSPACE_IMPLEMENTATION
#define SUBSPACE_STATIC
#include "subspace.h"
#define DSGD_AAU_IMPLEMENTATION
#define DSGD_AAU_STATIC
#include "dsgd_aau.h"
#define HPSGD_IMPLEMENTATION
#define HPSGD_STATIC
#include "hpsgd.h"
#define SADDLE_IMPLEMENTATION
#define SADDLE_STATIC
#include "saddle.h"
#include "weft_link.h"
#include "preset.h"
#include "board.h"
#include "text.h"

enum { D = 1024, WORKERS = 3, PAIR = 2, ALLOWED = 8192, INSTRUCTION_NS = 1, BLOB = 16384 };

static float model[D], gradient[D];
static weft_tensor params = {model, D, WEFT_F32}, grads = {gradient, D, WEFT_F32};
static weft_graph ring, alone_graph;
static unsigned char ring_memory[WEFT_GRAPH_BYTES(WORKERS, WORKERS)], alone_memory[WEFT_GRAPH_BYTES(1, 1)];
static int failed;

/* ---- A network of one worker, for what needs no other ---- */

static weft_status no_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes, weft_request *q) {
    (void)ctx, (void)peer, (void)tag, (void)data, (void)bytes, (void)q;
    return WEFT_ERR_TRANSPORT;
}
static weft_status no_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity, weft_request *q) {
    (void)ctx, (void)peer, (void)tag, (void)data, (void)capacity, (void)q;
    return WEFT_ERR_TRANSPORT;
}
static weft_status no_test(void *ctx, weft_request *q) {
    (void)ctx, (void)q;
    return WEFT_ERR_TRANSPORT;
}
static void no_cancel(void *ctx, weft_request *q) {
    (void)ctx, (void)q;
}
static uint64_t now(void *ctx) {
    (void)ctx;
    return board_now_ns();
}
static weft_status no_frame(void *ctx, uint32_t peer, const void *frame, size_t bytes) {
    (void)ctx, (void)peer, (void)frame, (void)bytes;
    return WEFT_AGAIN;
}
static weft_transport net, two, alone;

/* ---- Memory ---- */

static weft_memory_report half, whole;

static void tell_rest(const char *name, size_t models, size_t rest) {
    say("memory ");
    say(name);
    say_field("total", models + rest);
    say_field("models", models);
    say_field("rest", rest);
    say("\n");
    if (rest <= ALLOWED) return;
    say("over: ");
    say(name);
    say_field("allowed", ALLOWED);
    say("\n");
    failed = 1;
}

/* What grows with the model is what a model of half the size needs less of, twice. */
static void tell_memory(const char *name) {
    size_t i, models = 0;
    if (!whole.total_bytes || !half.total_bytes || whole.count != half.count) {
        say("refused: ");
        say(name);
        say(" ");
        say(whole.detail.field ? whole.detail.field : "");
        say("\n");
        failed = 1;
        return;
    }
    for (i = 0; i < whole.count; i++) models += 2 * (whole.entry[i].bytes - half.entry[i].bytes);
    tell_rest(name, models, whole.total_bytes - models);
    for (i = 0; i < whole.count; i++) {
        if (!whole.entry[i].bytes) continue;
        say("  ");
        say(name);
        say_field("bytes", whole.entry[i].bytes);
        say(" ");
        say(whole.entry[i].name);
        say("\n");
    }
}

#define MEMORY(P, D_)                                                                                                  \
    do {                                                                                                               \
        params.count = grads.count = D / 2;                                                                            \
        (void)P##_memory(&(D_), &half);                                                                                \
        params.count = grads.count = D;                                                                                \
        (void)P##_memory(&(D_), &whole);                                                                               \
        tell_memory(#P);                                                                                               \
    } while (0)

static void memory_of_all(void) {
    {
        grawa_desc d = {0};
        d.struct_size = sizeof d;
        d.params.tensor = &params;
        d.params.count = 1;
        d.transport = &two;
        edge_grawa(&d);
        MEMORY(grawa, d);
    }
    {
        subspace_desc d = {0};
        d.struct_size = sizeof d;
        d.gradients.tensor = &grads;
        d.gradients.count = 1;
        d.transport = &two;
        edge_subspace(&d);
        MEMORY(subspace, d);
    }
    {
        dsgd_aau_desc d = {0};
        d.struct_size = sizeof d;
        d.params.tensor = &params;
        d.params.count = 1;
        d.transport = &net;
        d.graph = &ring;
        edge_dsgd_aau(&d);
        MEMORY(dsgd_aau, d);
    }
    {
        hpsgd_desc d = {0};
        d.struct_size = sizeof d;
        d.params.tensor = &params;
        d.params.count = 1;
        d.transport = &two;
        edge_hpsgd(&d);
        MEMORY(hpsgd, d);
    }
    {
        saddle_desc d = {0};
        d.struct_size = sizeof d;
        d.params.tensor = &params;
        d.params.count = 1;
        d.transport = &net;
        d.graph = &ring;
        d.learning_rate = 0.05;
        d.rho = 0.05;
        d.codec = weft_codec_q8();
        edge_saddle(&d);
        MEMORY(saddle, d);
    }
    {
        weft_frames_desc d = {0};
        edge_frames(&d, 0, WORKERS);
        d.send = no_frame;
        d.now = now;
        tell_rest("weft_link", 0, weft_frames_memory(&d));
    }
}

/* ---- A state as large as the model, to flash and back, page by page ---- */

static unsigned char flash[BLOB];
static size_t flash_at, pages, largest;

static weft_status to_flash(void *ctx, const void *data, size_t bytes) {
    (void)ctx;
    if (bytes > sizeof flash - flash_at) return WEFT_ERR_CAPACITY;
    memcpy(flash + flash_at, data, bytes);
    flash_at += bytes;
    pages++;
    if (bytes > largest) largest = bytes;
    return WEFT_OK;
}

static weft_status from_flash(void *ctx, size_t at, void *data, size_t bytes) {
    (void)ctx;
    if (at > flash_at || bytes > flash_at - at) return WEFT_ERR_ARGUMENT;
    memcpy(data, flash + at, bytes);
    return WEFT_OK;
}

static void in_pieces(void) {
    static unsigned char memory[32768];
    saddle_desc d = {0};
    saddle *x = NULL;
    saddle_want w;
    weft_status s;
    uint64_t sum[2] = {0, 0};
    int turn, k, step;
    for (turn = 0; turn < 2; turn++) { /* 0: six steps; 1: three, saved, loaded into a new object, three */
        for (k = 0; k < D; k++) model[k] = 0.01f * (float)(k % 37) - 0.17f;
        for (step = 0; step < 6; step++) {
            if (step == 0 || (turn && step == 3)) {
                if (step) {
                    if (saddle_save_to(x, to_flash, NULL, NULL) != WEFT_OK) failed = 1;
                    saddle_close(x);
                }
                d.struct_size = sizeof d;
                d.params.tensor = &params;
                d.params.count = 1;
                d.transport = &alone;
                d.graph = &alone_graph;
                d.learning_rate = 0.05;
                d.rho = 0.05;
                edge_saddle(&d);
                if (saddle_init(&x, &d, memory, sizeof memory) != WEFT_OK ||
                    (step && saddle_load_from(x, from_flash, NULL, flash_at) != WEFT_OK)) {
                    failed = 1;
                    return;
                }
            }
            while ((s = saddle_wait(x, &w)) == WEFT_WANT_GRADIENT)
                for (k = 0; k < D; k++)
                    ((float *)w.into.tensor[0].data)[k] = ((const float *)w.at.tensor[0].data)[k] - 0.001f * (float)k;
            if (s != WEFT_OK) failed = 1;
        }
        saddle_close(x);
        for (k = 0; k < D; k++) {
            uint32_t bits;
            memcpy(&bits, &model[k], 4);
            sum[turn] = (sum[turn] ^ bits) * 1099511628211u;
        }
    }
    if (sum[0] != sum[1] || !flash_at) failed = 1;
    say("pieces saddle");
    say_field("blob", flash_at);
    say_field("pieces", pages);
    say_field("largest", largest);
    say_field("same", sum[0] == sum[1]);
    say("\n");
}

/* ---- Instructions ---- */

static uint64_t overhead;
static uint64_t begin(void) {
    return board_now_ns();
}
static void end(const char *what, uint64_t from, uint64_t elements) {
    const uint64_t ns = board_now_ns() - from;
    say("instructions ");
    say(what);
    say_field("elements", elements);
    say_field("tenths", 10 * (ns - overhead) / INSTRUCTION_NS / elements);
    say("\n");
}

static void instructions(void) {
    const weft_kernels *k = weft_kernels_select(WEFT_ISA_AUTO, 0);
    const weft_gradient_kernels *g = weft_gradient_kernels_select(WEFT_ISA_AUTO, 0);
    uint64_t t;
    double sink;
    int i;
    for (i = 0; i < D; i++) {
        model[i] = 0.001f * (float)i;
        gradient[i] = 1.0f - 0.002f * (float)i;
    }
    t = begin();
    overhead = board_now_ns() - t;
    t = begin();
    sink = weft_run_sqnorm(k, NULL, WEFT_F32, D, model);
    end("sqnorm", t, D);
    t = begin();
    sink += weft_run_dot(g, NULL, WEFT_F32, D, model, gradient);
    end("dot", t, D);
    t = begin();
    weft_run_axpy(k, NULL, WEFT_F32, D, 0.5, gradient, model);
    end("axpy", t, D);
    if (!(sink > 0)) failed = 1;
}

int main(void) {
    net = weft_transport_make(NULL, 0, WORKERS, no_send, no_recv, no_test, no_cancel, now);
    two = weft_transport_make(NULL, 0, PAIR, no_send, no_recv, no_test, no_cancel, now);
    alone = weft_transport_make(NULL, 0, 1, no_send, no_recv, no_test, no_cancel, now);
    if (weft_graph_ring(&ring, WORKERS, ring_memory, sizeof ring_memory) != WEFT_OK ||
        weft_graph_complete(&alone_graph, 1, alone_memory, sizeof alone_memory) != WEFT_OK)
        return 2;
    memory_of_all();
    in_pieces();
    instructions();
    say("stack");
    say_field("bytes", board_stack_used());
    say("\n");
    return failed;
}
