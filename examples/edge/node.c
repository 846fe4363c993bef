/* SPDX-License-Identifier: MIT
 * node.c: one of two microcontrollers that learn spoken digits together, by DSGD-AAU over a serial line with frames of 51
 * bytes. Each has the recordings of three speakers in its flash and is tested on all six. First it learns alone, then with
 * the other one. All memory is static, and there is no library but memcpy and its like, and sqrt.
 *
 * NODE: 0 or 1. ASLEEP: 1 lets node 1 stand with its line switched off for nine tenths of the time; node 0 waits for it
 * no longer than PATIENCE. */
#define DSGD_AAU_IMPLEMENTATION
#define DSGD_AAU_STATIC
#include "dsgd_aau.h"
#include "weft_link.h"
#include "preset.h"
#include "board.h"
#include "model.h"
#include "text.h"
#if NODE
#include "data-1.h"
#else
#include "data-0.h"
#endif

#if ASLEEP
enum { ROUNDS = 3, SAMPLES_A_ROUND = 500 };
#else
enum { ROUNDS = 12, SAMPLES_A_ROUND = 170 };
#endif
enum { MILLISECOND = 1000000, PATIENCE = 50 * MILLISECOND, AWAKE = 400 * MILLISECOND };
enum { LOST_OF_256 = 5, DAMAGED_OF_256 = 5 }; /* frames; the line of an emulator does no harm by itself */
static const float rate = 0.003f;

/* ---- Everything there is ---- */

static float model[PARAMETERS];
static unsigned char weft_memory[4 * PARAMETERS + 5120], link_memory[3072];
static unsigned char graph_memory[WEFT_GRAPH_BYTES(2, 1)];
static unsigned char frame[EDGE_FRAME];
static weft_slip slip = {frame, sizeof frame, 0, 0, 0};
static weft_frames *frames;
static dsgd_aau *together;
/* What is drawn of the line must not change what is drawn of the samples: the same model comes out of any line. */
static uint32_t of_samples = 1 + NODE, of_line = 101 + NODE, dropped, spoilt;

static uint32_t draw(uint32_t *state, uint32_t below) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % below;
}

static void stop(const char *what, const weft_detail *d) {
    say("stopped: ");
    say(what);
    if (d) {
        say(": ");
        say(weft_strerror(d->status));
        say(d->field ? " " : "");
        say(d->field ? d->field : "");
        say_field("expected", d->expected);
        say_field("got", d->got);
    }
    say("\n");
    board_exit(1);
}

/* ---- The line ---- */

static void put_byte(void *ctx, unsigned char byte) {
    (void)ctx;
    board_line_put(byte);
}

static weft_status send_frame(void *ctx, uint32_t peer, const void *data, size_t bytes) {
    unsigned char copy[EDGE_FRAME];
    const uint32_t luck = draw(&of_line, 256);
    (void)ctx;
    (void)peer;
    if (luck < LOST_OF_256) {
        dropped++;
        return WEFT_OK;
    }
    memcpy(copy, data, bytes);
    if (luck < LOST_OF_256 + DAMAGED_OF_256) {
        copy[draw(&of_line, (uint32_t)bytes)] ^= (unsigned char)(1u << draw(&of_line, 8));
        spoilt++;
    }
    weft_slip_send(copy, bytes, put_byte, NULL);
    return WEFT_OK;
}

static uint64_t now(void *ctx) {
    (void)ctx;
    return board_now_ns();
}

/* What has come, and what there is to say. */
static void attend(void) {
    uint32_t rank;
    int byte, up;
    size_t n;
    while ((byte = board_line_get()) >= 0)
        if ((n = weft_slip_byte(&slip, (unsigned char)byte)) != 0) weft_frames_arrived(frames, 1 - NODE, frame, n);
    weft_frames_poll(frames);
    while (together && weft_frames_news(frames, &rank, &up))
        (void)(up ? dsgd_aau_peer_up(together, rank) : dsgd_aau_peer_lost(together, rank));
}

#if ASLEEP && NODE
static uint64_t asleep_ns, woke_ns;
/* The line is off, so that what comes meanwhile is lost, for nine times as long as it was on. */
static void sleep_now(void) {
    const uint64_t from = board_now_ns(), until = from + 9 * (from - woke_ns);
    while (board_now_ns() < until) (void)board_line_get();
    slip.spoilt = 1; /* the rest of a frame is none */
    woke_ns = board_now_ns();
    asleep_ns += woke_ns - from;
}
#endif

static void finish(weft_status s, const char *what) {
    while (s == WEFT_AGAIN) {
        attend();
        s = dsgd_aau_poll(together);
        if (s == WEFT_AGAIN) board_wait();
#if ASLEEP && NODE
        if (board_now_ns() - woke_ns > AWAKE) sleep_now();
#endif
    }
    if (s < 0) stop(what, dsgd_aau_detail(together));
}

/* ---- Learning ---- */

static void learn(void) {
    int i;
    for (i = 0; i < SAMPLES_A_ROUND; i++) {
        const uint32_t k = draw(&of_samples, train_samples);
        model_step(model, train_x[k], train_y[k], rate);
        if (together) attend();
    }
}

static uint32_t right_of_test(void) {
    uint32_t i, n = 0;
    for (i = 0; i < test_samples; i++) n += (uint32_t)model_is_right(model, test_x[i], test_y[i]);
    return n;
}

static void connect(weft_transport *net) {
    weft_frames_desc d = {0};
    edge_frames(&d, NODE, 2);
    d.send = send_frame;
    d.now = now;
    d.incarnation = 1 + NODE;
    if (!(frames = weft_frames_init(&d, link_memory, sizeof link_memory, net))) stop("weft_frames_init", NULL);
    while (!weft_frames_is_up(frames, 1 - NODE)) {
        attend();
        board_wait();
    }
}

static uint32_t digest(void) {
    const unsigned char *p = (const unsigned char *)model;
    uint32_t h = 2166136261u;
    size_t i;
    for (i = 0; i < sizeof model; i++) h = (h ^ p[i]) * 16777619u;
    return h;
}

int main(void) {
    static weft_transport net;
    static weft_graph graph;
    static weft_tensor t;
    dsgd_aau_desc d = {0};
    dsgd_aau_stats_t stats;
    weft_detail why = weft_detail_none();
    int round;
    say("node ");
    say_number(NODE);
    say(", ");
    say(board_name);
    say(":");
    for (round = 0; round < ROUNDS; round++) learn();
    say_field("alone", right_of_test());
    memset(model, 0, sizeof model);

    say_field("from", board_now_ns() / MILLISECOND);
    connect(&net);
    t.data = model;
    t.count = PARAMETERS;
    t.dtype = WEFT_F32;
    if (weft_graph_complete(&graph, 2, graph_memory, sizeof graph_memory) != WEFT_OK) stop("weft_graph_complete", NULL);
    d.struct_size = sizeof d;
    d.params.tensor = &t;
    d.params.count = 1;
    d.transport = &net;
    d.graph = &graph;
    edge_dsgd_aau(&d);
#if ASLEEP
    if (!NODE) d.patience_ns = PATIENCE; /* goes on alone where the other one sleeps */
#endif
    if (dsgd_aau_init_detail(&together, &d, weft_memory, sizeof weft_memory, &why) != WEFT_OK)
        stop("dsgd_aau_init", &why);
#if ASLEEP && NODE
    woke_ns = board_now_ns();
#endif
    for (round = 0; round < ROUNDS; round++) {
        learn();
        finish(dsgd_aau_step(together), "dsgd_aau_step");
    }
#if ASLEEP && !NODE
    /* the other one has taken part in few of these: until it has made its own */
    do {
        learn();
        finish(dsgd_aau_step(together), "dsgd_aau_step");
        dsgd_aau_stats(together, &stats);
    } while (stats.neighbours);
#endif
    finish(dsgd_aau_leave(together), "dsgd_aau_leave");
    dsgd_aau_stats(together, &stats);
    dsgd_aau_close(together);
    say_field("together", right_of_test());
    say_field("of", test_samples);
    say_field("steps", stats.steps);
    say_field("averagings", stats.led + stats.followed);
    say_field("lost", stats.lost);
    say_field("frames", frames->frames_sent);
    say_field("again", frames->frames_again);
    say_field("bad", frames->frames_bad);
    say_field("dropped", dropped);
    say_field("spoilt", spoilt);
    say_field("digest", digest());
    say_field("stack", board_stack_used());
    say_field("weft", sizeof weft_memory);
    say_field("link", sizeof link_memory);
    say_field("model", sizeof model);
    say_field("ms", board_now_ns() / MILLISECOND);
#if ASLEEP && NODE
    say_field("asleep", asleep_ns / MILLISECOND);
#endif
    say("\n");
    /* its last acknowledgements; the other one may still ask */
    for (round = 0; round < 200; round++) {
        const uint64_t until = board_now_ns() + 10 * MILLISECOND;
        while (board_now_ns() < until) {
            attend();
            board_wait();
        }
    }
    return 0;
}
