/* SPDX-License-Identifier: MIT
 * libFuzzer: what comes off the wire, through the whole public API of saddle.h. The input is a script for a simulated
 * run of two to four workers: which messages are changed and how, what is injected, who is lost, comes again or leaves,
 * which links hosts give up, which callbacks fail, which verbs are called when.
 *
 *   bytes 0 .. 3  variant, order, momentum, codec; feedback, share; graph and network; what the hosts do
 *   then          operations of 12 bytes: what, whom, which, where, eight bytes of value
 *
 * What must hold: nobody reads or writes out of bounds, parameters stay finite; and if no message was forged, everybody
 * comes to the end within a bound once hosts have mended what was lost, and the crew's ledger is right. */
#define WEFT_NO_SIMD /* asking the processor takes longer than a run */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
/* what surrounds it is not to be explored, and is slow enough */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#include "saddle_crew.h"
#pragma clang attribute pop

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETTINGS = 4, OPERATION = 12, MOST_OPERATIONS = 16, TURNS = 300, GOAL = 5 };

/* The first ones forge. */
enum {
    DO_XOR,
    DO_RESIZE,
    DO_FORGE,
    DO_RAW,
    DO_INJECT_LETTER,
    DO_INJECT_RAW,
    DO_INJECT_BULK,
    DO_PLAN,
    DO_FAIL,
    DO_VERB,
    DO_KINDS
};

static const uint8_t *script;
static size_t operations;
static crew c;

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

/* ---- messages ---- */

/* A letter, or a hello, with other fields and a checksum that fits. Returns its length. */
static size_t change_control(unsigned char *bytes, size_t n, uint32_t src, const uint8_t *op) {
    const uint64_t v = weft_get64(op + 4);
    size_t k, at = op[3] % 40u;
    if (n >= WEFT_LETTER_BYTES && bytes[0] == (WEFT_LETTER_MAGIC & 0xFFu) && bytes[1] == WEFT_LETTER_MAGIC >> 8) {
        if (op[3] >= 250) n = WEFT_LETTER_BYTES + op[4] % 33u;
        for (k = 0; op[3] < 250 && k < 1 + op[3] / 40u && at + k < n; k++) bytes[at + k] ^= op[4 + k % 8];
        weft_put32(bytes + 16, weft_letter_crc(bytes, n, src));
        return n;
    }
    {
        weft_header h;
        weft_detail why;
        unsigned char copy[WEFT_CONTROL_BYTES];
        memcpy(copy, bytes, sizeof copy);
        if (weft_header_read(copy, n, src, &h, &why) != WEFT_OK) return n;
        switch (op[3] % 9) {
        case 0: h.epoch = (uint32_t)v; break;
        case 1: h.round = v; break;
        case 2: h.step = (uint32_t)v; break;
        case 3: h.piece = (uint32_t)v; break;
        case 4: h.bytes = v; break;
        case 5: h.arg0 = v; break;
        case 6: h.kind = (uint32_t)v & 0xFF; break;
        case 7: h.payload = (uint32_t)v % (WEFT_INLINE_BYTES + 1); break;
        default: weft_put64(bytes + WEFT_HEADER_BYTES + op[4] % (unsigned)SADDLE_FIELDS * 8, v);
        }
        return weft_header_write(bytes, &h);
    }
}

static void on_message(void *user, const weft_sim_message *m) {
    unsigned char control[WEFT_CONTROL_BYTES + 64], *bytes = control;
    const int is_control = m->tag % WEFT_TAGS_PER_CHANNEL == 0 && m->bytes <= WEFT_CONTROL_BYTES;
    size_t i, k, n = m->bytes;
    int changed = 0;
    (void)user;
    for (i = 0; i < operations && n <= 65536; i++) {
        const uint8_t *op = script + i * OPERATION;
        const int what = op[0] % DO_KINDS;
        if ((what != DO_FORGE && what != DO_RAW) || op[2] + 1u != m->number) continue;
        if (!changed++) {
            if (!is_control) bytes = (unsigned char *)malloc(n + 1);
            if (is_control) memset(control, 0, sizeof control);
            memcpy(bytes, m->data, n);
        }
        if (is_control && what == DO_FORGE)
            n = change_control(bytes, n, m->src, op);
        else
            for (k = op[3] % 8u; k < n; k += op[1] % 32u + 1) bytes[k] = op[4 + k % 8];
    }
    if (changed) weft_sim_replace(&c.k.sim, m->src, m->dst, m->tag, 1, bytes, n);
    if (bytes != control) free(bytes);
}

static void prepare(void) {
    static const weft_status statuses[4] = {WEFT_ERR_TRANSPORT, WEFT_ERR_PEER_LOST, WEFT_ERR_TRUNCATED,
                                            WEFT_ERR_MEMORY};
    weft_sim *sim = &c.k.sim;
    size_t i, plans = 0;
    for (i = 0; i < operations; i++) {
        const uint8_t *op = script + i * OPERATION;
        const uint32_t n = c.k.size, src = op[1] % n, dst = (src + 1 + op[1] / 4 % (n - 1)) % n;
        unsigned char bytes[WEFT_LETTER_BYTES + 16];
        switch (op[0] % DO_KINDS) {
        case DO_XOR: weft_sim_corrupt(sim, src, dst, WEFT_SIM_ANY, op[2] + 1u, op[3], op[4]); break;
        case DO_RESIZE: weft_sim_resize(sim, src, dst, WEFT_SIM_ANY, op[2] + 1u, op[4] + (op[5] % 8u) * 256u); break;
        case DO_INJECT_LETTER:
            memset(bytes, 0, sizeof bytes);
            bytes[0] = WEFT_LETTER_MAGIC & 0xFFu;
            bytes[1] = WEFT_LETTER_MAGIC >> 8;
            bytes[2] = WEFT_WIRE_VERSION;
            bytes[3] = (unsigned char)(op[3] % 5u);
            weft_put32(bytes + 4, 1u + op[4] % 3u);
            weft_put64(bytes + WEFT_LETTER_BYTES, op[5] & 128 ? weft_get64(op + 4) : op[5] % 8u);
            weft_put32(bytes + WEFT_LETTER_BYTES + 8, op[6]);
            weft_put32(bytes + WEFT_LETTER_BYTES + 12, op[7] % 3u);
            weft_put32(bytes + 16,
                       weft_letter_crc(bytes, WEFT_LETTER_BYTES + (bytes[3] == SADDLE_ROUND ? 16u : 8u), src));
            weft_sim_inject(sim, op[2] + 1u, src, dst, 0, bytes,
                            WEFT_LETTER_BYTES + (bytes[3] == SADDLE_ROUND ? 16u : 8u));
            break;
        case DO_INJECT_RAW: weft_sim_inject(sim, op[2] + 1u, src, dst, 0, op + 4, op[3] % 9u); break;
        case DO_INJECT_BULK: weft_sim_inject(sim, op[2] + 1u, src, dst, 1u + op[3] % 8u, op + 4, op[3] / 8 % 9u); break;
        case DO_PLAN:
            if (plans == CREW_PLANS) break;
            c.desc.plan[plans].turn = 1 + op[2];
            c.desc.plan[plans].kind = (crew_kind)(op[3] % CREW_ACTS);
            c.desc.plan[plans].a = src;
            c.desc.plan[plans++].b = dst;
            break;
        case DO_FAIL: weft_sim_fail_call(sim, (weft_sim_call)(op[3] % 3), src, op[2] + 1u, statuses[op[4] % 4]); break;
        default: break;
        }
    }
}

/* ---- verbs ---- */

static void refused(const lock_worker *w, weft_status s) {
    const weft_detail *d = saddle_detail(w->x);
    need(s < 0 && d->status == s && d->field, "a refusal is an error that says why");
}

static void try_verb(lock_worker *w, const uint8_t *op) {
    static unsigned char blob[8192];
    const uint32_t may = saddle_state(w->x);
    saddle_stats_t stats;
    size_t n = 0;
    weft_status s;
    switch (op[3] % 8) {
    case 0:
        s = saddle_save(w->x, blob, op[4] * 32u, &n);
        if (!(may & SADDLE_MAY_SET))
            refused(w, s);
        else
            need(s == WEFT_OK ? n <= op[4] * 32u : s == WEFT_ERR_CAPACITY && n > op[4] * 32u, "save");
        break;
    case 1: refused(w, saddle_load(w->x, op + 4, 8)); break;
    case 2:
        s = saddle_set_learning_rate(w->x, op[4] / 256.0);
        if (op[4] == 0 || !(may & SADDLE_MAY_SET))
            refused(w, s);
        else
            need(s == WEFT_OK, "set_learning_rate");
        break;
    case 3:
        if (!(may & SADDLE_MAY_SET)) refused(w, saddle_leave(w->x));
        break;
    case 4: refused(w, saddle_peer_lost(w->x, op[4] % 2 ? w->rank : c.k.size + op[5])); break;
    case 5: need(saddle_poll(w->x) >= 0 || saddle_detail(w->x)->field, "poll"); break;
    case 6: refused(w, saddle_step(w->x, NULL, NULL)); break;
    default:
        saddle_stats(w->x, &stats);
        need(stats.steps <= w->x->step && stats.neighbours <= c.k.size, "counters that cannot be");
        saddle_buffer(w->x, (saddle_buffer_kind)(op[4] % 5), op[5], op[6] % 4u);
    }
}

/* Some verbs in between, and a number of turns of everybody. 0: a worker has an error that it should not have. */
static int run(int forged) {
    uint64_t turn;
    uint32_t r;
    size_t i;
    for (turn = 0; turn < TURNS; turn++) {
        for (i = 0; i < operations; i++) {
            const uint8_t *op = script + i * OPERATION;
            lock_worker *w = &c.k.worker[op[1] % c.k.size];
            if (op[0] % DO_KINDS == DO_VERB && op[2] == turn && crew_there(&c, w->rank) && !c.leaving[w->rank])
                try_verb(w, op);
        }
        c.goal = GOAL;
        for (i = 0; i < CREW_PLANS; i++) {
            crew_plan *p = &c.desc.plan[i];
            if (p->turn && p->turn <= turn && !crew_do(&c, p)) return 0;
        }
        for (r = 0; r < c.k.size; r++) {
            if (!crew_there(&c, r) || crew_turn(&c, r, GOAL)) continue;
            /* of forged messages a hello that is another's, or numbers that overflow, may be the end */
            need(forged && (saddle_detail(c.k.worker[r].x)->status == WEFT_ERR_MISMATCH ||
                            saddle_detail(c.k.worker[r].x)->status == WEFT_ERR_PROTOCOL ||
                            saddle_detail(c.k.worker[r].x)->status == WEFT_ERR_NONFINITE),
                 c.k.why);
            c.k.why[0] = 0;
            if (saddle_detail(c.k.worker[r].x)->status == WEFT_ERR_NONFINITE) weft_sim_lose(&c.k.sim, r);
        }
        if (turn % 64 == 63) crew_heal(&c);
        weft_sim_advance(&c.k.sim, 1000);
        c.turn++;
    }
    return !c.k.why[0];
}

static crew_desc settings(const uint8_t *data) {
    static const lock_make_graph graphs[4] = {weft_graph_ring, weft_graph_star, weft_graph_complete, weft_graph_chain};
    crew_desc d = crew_default(data[2] / 12u + 1, 2 + data[2] % 3u);
    saddle_desc *s = &d.k.s;
    int cross;
    s->variant = (saddle_variant)(data[0] % 6);
    cross = s->variant == SADDLE_N || s->variant == SADDLE_NGC;
    s->order = (saddle_order)(data[0] / 6 % 4);
    if (cross && s->order == SADDLE_ATC) s->order = SADDLE_CTA;
    s->momentum = (saddle_momentum)(data[0] / 24 % 4);
    switch (data[1] % 8) {
    case 1: s->codec = weft_codec_q8(); break;
    case 2: s->codec = weft_codec_q4(); break;
    case 3: s->codec = weft_codec_topk(0.7); break;
    case 4: s->codec = weft_codec_qsgd(6, 1); break;
    case 5: s->codec = weft_codec_sign(); break;
    case 6: s->codec = weft_codec_bf16(); break;
    default: break;
    }
    s->feedback = (saddle_feedback)(data[1] / 8 % 4);
    s->share = data[1] & 32 ? WEFT_ZERO : data[1] & 64 ? 0.25 : 0;
    s->compress_self = cross && (data[1] & 128) && s->share >= 0 && s->codec.kind != WEFT_CODEC_IDENTITY;
    s->gamma = s->codec.kind == WEFT_CODEC_IDENTITY ? 1 : 0.25;
    s->learning_rate = 0.01;
    s->in_place = data[3] & 1;
    d.k.graph = graphs[data[2] / 3 % 4];
    d.k.sim.mode = (weft_sim_mode)(data[3] >> 1 & 3);
    d.k.sim.eager_bytes = 100;
    if (data[3] & 8) d.k.dtype = crew_mixed;
    if (data[3] & 16) d.k.sim.jitter_ns = 3000;
    if (data[3] & 32) d.k.sim.detect_ns = 2000;
    d.k.sim.on_message = on_message;
    return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    crew_desc d;
    uint32_t r;
    size_t i, t, e;
    int ok, forged = 0;
    if (size < SETTINGS) return 0;
    script = data + SETTINGS;
    operations = (size - SETTINGS) / OPERATION;
    if (operations > MOST_OPERATIONS) operations = MOST_OPERATIONS;
    for (i = 0; i < operations; i++) forged |= script[i * OPERATION] % DO_KINDS <= DO_INJECT_BULK;
    d = settings(data);
    ok = crew_open(&c, &d);
    if (ok) prepare();
    ok = ok && run(forged);
    if (ok && !forged) ok = crew_run(&c, GOAL, 0) && crew_check(&c);
    for (r = 0; ok && r < c.k.size; r++) /* in place, others may stand there meanwhile */
        for (t = 0; t < 3 && !c.k.desc.s.in_place; t++)
            for (e = 0; e < c.k.worker[r].params.tensor[t].count; e++)
                need(isfinite(cluster_get(&c.k.worker[r].params.tensor[t], e)), "parameters that are not finite");
    if (!crew_close(&c) || !ok) {
        fprintf(stderr, "%s\n", c.k.why);
        abort();
    }
    return 0;
}
