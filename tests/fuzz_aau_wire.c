/* SPDX-License-Identifier: MIT
 * libFuzzer: what comes off the wire, through the whole public API of dsgd_aau.h. The input is a script for a simulated
 * run of three to five workers, one of which is hostile: which of its messages are changed and how, which it invents
 * (sealed as the library would, with what it knows of its victim), and what happens to the others meanwhile: links cut
 * and healed, workers lost and back, late, verbs called when they must not be.
 *
 *   bytes 0, 1   settings      byte 2   workers, graph, who is hostile      byte 3   network and hosts
 *   then         operations of 12 bytes: what, whom, which, where, eight bytes of value
 *
 * What must hold: nobody reads or writes out of bounds, or has more requests under way than it says; the others'
 * parameters are finite, and they never accuse each other; every averaging that one of them leads is applied by it, and
 * by all its leaves with the same weights; and once the hostile worker is cut off they come to their end. If nothing
 * was forged, and nobody was lost, the mean of all stays where it is. */
#define WEFT_NO_SIMD /* asking the processor takes longer than a run */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#include "aau_team.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETTINGS = 4, OPERATION = 12, MOST_OPERATIONS = 12, MOST = 5, STEPS = 3 };

/* The first ones forge. */
enum {
    DO_FIELD,  /* of a message of its: one field is another */
    DO_BYTES,  /* eight bytes of what follows its header are others */
    DO_BULK,   /* numbers in bulk */
    DO_LETTER, /* one that it invents */
    DO_STATE,  /* likewise, with news */
    DO_HELLO,
    DO_RAW,
    DO_DATA, /* in bulk, unasked */
    DO_MUTE, /* nothing of what it sends to one arrives any more, for a time */
    DO_XOR,
    DO_RESIZE,
    DO_CUT,
    DO_LOSE,
    DO_FAIL,
    DO_VERB,
    DO_KINDS
};

static const uint8_t *script;
static size_t operations;
static uint64_t verbs[MOST]; /* of each worker, so far */
static uint64_t sent;        /* messages of the hostile worker */
static uint32_t hostile;
static int forged, wild, failing, broken;
static aau team;

static uint64_t value_of(const uint8_t *op) {
    return weft_get64(op + 4);
}

static uint32_t neighbour_of(uint32_t rank, unsigned which) {
    uint32_t n;
    const uint32_t *j = weft_graph_neighbours(team.desc.graph, rank, &n);
    return j[which % n];
}

/* Numbers that are finite stay such that sums of them are, too. */
static void tame(unsigned char *p, size_t bytes, weft_dtype type) {
    size_t i, each = weft_dtype_bytes(type);
    for (i = 0; i + each <= bytes; i += each) {
        double d;
        float f;
        uint16_t h;
        if (type == WEFT_F64) {
            memcpy(&d, p + i, 8);
            if (isfinite(d) && fabs(d) > 1e30) d = 1e30;
            memcpy(p + i, &d, 8);
        } else if (type == WEFT_F32) {
            memcpy(&f, p + i, 4);
            if (isfinite(f) && fabsf(f) > 1e30f) f = 1e30f;
            memcpy(p + i, &f, 4);
        } else {
            memcpy(&h, p + i, 2);
            if ((h & 0x7F80) > 0x7100 && (h & 0x7F80) != 0x7F80) h = 0x7100;
            memcpy(p + i, &h, 2);
        }
    }
}

static weft_dtype wire_type(void) {
    const weft_dtype t = team.desc.dtype[0];
    return t == WEFT_F32 && team.desc.d.wire == DSGD_AAU_WIRE_BF16 ? WEFT_BF16 : t;
}

/* ---- messages that are changed ---- */

static void seal(unsigned char *p, size_t bytes) {
    if (bytes >= WEFT_LETTER_BYTES && p[0] == 'w' && p[1] == 'l')
        weft_put32(p + 16, weft_letter_crc(p, bytes, hostile));
    else if (bytes >= WEFT_HEADER_BYTES)
        weft_put32(p + 60, 0), weft_put32(p + 60, weft_crc32c(0, p, bytes));
}

static void change_field(unsigned char *p, size_t bytes, const uint8_t *op) {
    const uint64_t v = value_of(op);
    if (bytes < WEFT_HEADER_BYTES || p[0] != 'w' || p[1] != 'l') { /* HELLO, BYE */
        static const unsigned char at[8] = {4, 8, 12, 16, 24, 32, 40, 56};
        if (bytes >= WEFT_HEADER_BYTES) weft_put32(p + at[op[3] % 8], (uint32_t)v);
    }
    if (bytes < WEFT_LETTER_BYTES || p[0] != 'w' || p[1] != 'l') return;
    switch (op[3] % 6) {
    case 0:
        p[2] ^= op[4];
        wild |= op[4] >> 7; /* all its numbers turn around */
        break;
    case 1: p[3] = op[4]; break;
    case 2: weft_put32(p + 4, (uint32_t)v); break;
    case 3: weft_put32(p + 8, (uint32_t)v); break;
    case 4: weft_put32(p + 12, (uint32_t)v); break;
    default: weft_put32(p + 12, op[4] % 8u);
    }
}

/* Every message that the hostile worker sends. */
static void on_message(void *user, const weft_sim_message *m) {
    unsigned char p[WEFT_CONTROL_BYTES];
    uint64_t number;
    size_t i, k;
    (void)user;
    if (m->src != hostile) return;
    number = sent++;
    if (m->bytes > sizeof p && m->tag % WEFT_TAGS_PER_CHANNEL == 0) return;
    for (i = 0; i < operations; i++) {
        const uint8_t *op = script + i * OPERATION;
        const int what = op[0] % DO_KINDS;
        if (what > DO_BULK || op[2] != number % 256) continue;
        if (m->tag % WEFT_TAGS_PER_CHANNEL == 0 && what != DO_BULK) {
            const size_t head = m->bytes && ((const unsigned char *)m->data)[1] == 'l' ? WEFT_LETTER_BYTES
                                                                                       : WEFT_HEADER_BYTES;
            memcpy(p, m->data, m->bytes);
            if (what == DO_FIELD)
                change_field(p, m->bytes, op);
            else
                for (k = 0; k < 8 && head + op[3] % 64u + k < m->bytes; k++) p[head + op[3] % 64u + k] = op[4 + k];
            if (head == WEFT_LETTER_BYTES && m->bytes > head && dsgd_aau_has_data(p[3]))
                tame(p + head, m->bytes - head, wire_type());
            seal(p, m->bytes);
            weft_sim_replace(&team.sim, m->src, m->dst, m->tag, 1, p, m->bytes);
        } else if (m->tag % WEFT_TAGS_PER_CHANNEL && what == DO_BULK && m->bytes <= 65536) {
            unsigned char *bulk = (unsigned char *)malloc(m->bytes + 1);
            memcpy(bulk, m->data, m->bytes);
            for (k = op[3] % 8u; k < m->bytes; k += op[1] % 32u + 1) bulk[k] = op[4 + k % 8];
            tame(bulk, m->bytes, wire_type());
            weft_sim_replace(&team.sim, m->src, m->dst, m->tag, 1, bulk, m->bytes);
            free(bulk);
        }
    }
}

/* ---- messages that are invented ---- */

/* News: what the victim believes, and something more. */
static size_t news(unsigned char *p, dsgd_aau_core *c, const uint8_t *op) {
    static const uint32_t counters[8] = {1, 2, 3, 4, 100, DSGD_AAU_MOST_COUNTER - 1, DSGD_AAU_MOST_COUNTER, UINT32_MAX};
    uint64_t hash = c->view_hash, epoch = c->epoch;
    size_t at = 9;
    uint32_t k, entries = op[5] % 4u;
    switch (op[4] >> 4 & 7) {
    case 1: epoch += 1; break;
    case 2: epoch += 1000; break;
    case 3: epoch = UINT64_MAX >> 2; break;
    case 4: epoch = (UINT64_MAX >> 2) - 1; break;
    case 5: epoch = UINT64_MAX; break;
    case 6: epoch = 0; break;
    default: break;
    }
    p[0] = op[4] >> 7 ? op[4] : op[4] & 3u;
    at += dsgd_aau_put(p + at, epoch);
    at += dsgd_aau_put(p + at, op[5] & 64u ? op[5] : entries);
    for (k = 0; k < entries; k++) {
        const uint32_t e = op[6 + k] % (c->edges + (op[5] >> 7)), v = e < c->edges ? c->view[e] : 0;
        uint32_t counter = counters[op[6 + k] >> 5];
        if (op[5] & 32u) counter = v + 1 + counter % 4; /* a little more than it knows */
        at += dsgd_aau_put(p + at, e);
        at += dsgd_aau_put(p + at, counter);
        if (e < c->edges && counter > v) hash += dsgd_aau_mix(e, counter) - dsgd_aau_mix(e, v);
    }
    for (k = 9; k < OPERATION && op[4] & 4u; k++) {
        at += dsgd_aau_put(p + at, op[k] % c->workers);
        at += dsgd_aau_put(p + at, (op[k] >> 4) % (c->workers + (op[5] >> 4 & 1)));
    }
    weft_put64(p + 1, op[4] & 8u ? hash : hash ^ op[11]);
    return at;
}

static void invent(const uint8_t *op) {
    unsigned char p[WEFT_CONTROL_BYTES];
    const uint32_t dst = neighbour_of(hostile, op[1]), slot = weft_graph_slot(team.desc.graph, hostile, dst);
    dsgd_aau *from = team.worker[hostile].x, *to = team.worker[dst].x;
    const uint32_t mine = from->net.link[slot].mine;
    const uint32_t back = weft_graph_slot(team.desc.graph, dst, hostile);
    weft_header h;
    size_t n = 0;
    uint32_t tag = 0;
    if (!to) return;
    memset(p, op[11], sizeof p);
    switch (op[0] % DO_KINDS) {
    case DO_LETTER:
    case DO_STATE:
        p[0] = 'w';
        p[1] = 'l';
        p[2] = (unsigned char)(WEFT_WIRE_VERSION | weft_big_endian() << 7);
        p[3] = (unsigned char)(1 + op[3] % 12u);
        weft_put32(p + 4, mine);
        weft_put32(p + 8, op[6] & 1u ? to->core.tx : op[6] & 2u ? to->core.leader_tx : op[7]);
        weft_put32(p + 12, op[8] & 1u ? 0 : op[8] / 2u);
        if (op[0] % DO_KINDS == DO_STATE) {
            weft_put32(p + 12, 0);
            n = news(p + WEFT_LETTER_BYTES, &to->core, op);
        } else if (dsgd_aau_has_data(p[3]) && dsgd_aau_is_inline(to)) {
            n = op[9] & 1u ? op[9] % (WEFT_CONTROL_BYTES - WEFT_LETTER_BYTES) : to->wire_bytes;
            tame(p + WEFT_LETTER_BYTES, n, wire_type());
        }
        n += WEFT_LETTER_BYTES;
        if (n > sizeof p) n = sizeof p;
        seal(p, n);
        break;
    case DO_HELLO:
        memset(&h, 0, sizeof h);
        memset(p, 0, sizeof p);
        dsgd_aau_on_hello(from, slot, &h, p + WEFT_HEADER_BYTES);
        h.kind = op[3] & 1u ? WEFT_LINK_BYE : WEFT_LINK_HELLO;
        if (h.kind == WEFT_LINK_BYE) h.payload = 0;
        h.big_endian = weft_big_endian();
        h.epoch = op[4] & 1u ? mine : op[5];
        h.sender = hostile;
        h.bytes = op[4] & 2u ? to->net.link[back].mine : op[6];
        if (op[4] & 4u) h.arg0 = op[4] & 8u ? DSGD_AAU_MOST_COUNTER - op[7] % 4u : op[7];
        if (op[4] & 16u) h.round = op[8];
        n = weft_header_write(p, &h);
        break;
    case DO_RAW:
        n = op[3];
        memcpy(p, op + 4, 8);
        tag = op[3] % 4 ? 0 : op[3];
        if (tag) tame(p, n, wire_type());
        break;
    default: /* bulk, on the tag of the link or beside it */
        n = op[3] % 2 ? op[3] : to->wire_bytes < sizeof p ? to->wire_bytes : sizeof p;
        tame(p, n, wire_type());
        tag = weft_link_tag(&from->net, &from->net.link[slot]) + op[4] % 2u;
    }
    weft_sim_inject_at(&team.sim, weft_sim_now(&team.sim) + 1, hostile, dst, tag, p, n);
}

/* ---- what happens to the others ---- */

static void say(uint32_t a, uint32_t b, int up) {
    if (!team.worker[a].x || !weft_sim_alive(&team.sim, a)) return;
    if (up)
        dsgd_aau_peer_up(team.worker[a].x, b);
    else
        dsgd_aau_peer_lost(team.worker[a].x, b);
    weft_sim_wake(&team.sim, a, weft_sim_now(&team.sim));
}

static void try_verb(aau_worker *w, const uint8_t *op) {
    static unsigned char blob[256];
    const uint32_t may = dsgd_aau_state(w->x), peer = op[4] % 8u;
    uint32_t labels[MOST];
    dsgd_aau_stats_t stats;
    size_t bytes = 0;
    weft_status s = WEFT_ERR_ORDER;
    switch (op[3] % 8) {
    case 0: dsgd_aau_save(w->x, blob, op[5], &bytes); break;
    case 1: s = dsgd_aau_load(w->x, op + 4, 8); break;
    case 2:
        if (!(may & DSGD_AAU_MAY_STEP)) s = dsgd_aau_step(w->x);
        break;
    case 3:
        if (!(may & DSGD_AAU_MAY_STEP)) s = dsgd_aau_leave(w->x);
        break;
    case 4:
        if (peer >= team.size || peer == w->rank) s = dsgd_aau_peer_up(w->x, peer);
        break;
    case 5:
        if (!(may & DSGD_AAU_MAY_START)) s = dsgd_aau_start(w->x);
        break;
    case 6: dsgd_aau_poll(w->x); break;
    default:
        dsgd_aau_stats(w->x, &stats);
        dsgd_aau_labels(w->x, labels, op[4] % (MOST + 1u));
        dsgd_aau_link(w->x, op[5]);
        dsgd_aau_wake_ns(w->x);
    }
    if (s >= 0) aau_fail(&team, "worker %u: verb %u should have been refused", (unsigned)w->rank, op[3] % 8u);
}

static void look(aau_worker *w) {
    size_t k, i;
    const weft_detail *why = dsgd_aau_fault(w->x);
    if (w->rank == hostile && forged) return;
    if (!failing && why->status && !(forged && (why->peer == hostile || strstr(why->field, "at its end"))))
        aau_fail(&team, "worker %u accuses %u: %s, %s, expected %llu, got %llu", (unsigned)w->rank, (unsigned)why->peer,
                 weft_strerror(why->status), why->field, (unsigned long long)why->expected,
                 (unsigned long long)why->got);
    for (k = 0; k < w->params.count && !wild && w->status == WEFT_OK; k++)
        for (i = 0; i < w->params.tensor[k].count; i++)
            if (!isfinite(cluster_get(&w->params.tensor[k], i)))
                aau_fail(&team, "worker %u: a parameter that is not finite", (unsigned)w->rank);
}

/* A worker runs. */
static int step(void *user, uint32_t rank) {
    aau_worker *w = (aau_worker *)user;
    const uint64_t number = verbs[rank]++;
    size_t i;
    int done;
    for (i = 0; i < operations; i++) {
        const uint8_t *op = script + i * OPERATION;
        const int what = op[0] % DO_KINDS;
        if (op[2] != number) continue;
        if (rank == hostile && what >= DO_LETTER && what <= DO_DATA)
            invent(op);
        else if (rank == hostile && what == DO_MUTE)
            weft_sim_clog(&team.sim, hostile, neighbour_of(hostile, op[1]), weft_sim_now(&team.sim),
                          op[3] & 1u ? WEFT_SIM_FOREVER : weft_sim_now(&team.sim) + op[4] * 20000u);
        else if (what == DO_VERB && op[1] % team.size == rank && w->phase != AAU_GONE)
            try_verb(w, op);
        else if (what == DO_CUT && op[1] % team.size == rank) { /* or heals; whoever leaves is left alone */
            const uint32_t other = neighbour_of(rank, op[3]);
            const int up = op[4] & 1, both = op[4] & 2;
            if (team.worker[rank].phase >= AAU_LEAVING || team.worker[other].phase >= AAU_LEAVING) continue;
            if (!up || both) say(other, rank, up);
            say(rank, other, up);
        }
    }
    done = aau_step(user, rank);
    if (w->x) look(w);
    if (w->x && !done) aau_notice_gone(w);
    if (wild && w->status == WEFT_ERR_NONFINITE) return 1;
    return done;
}

/* Averagings that the hostile worker leads are what it says. */
static void trace(void *ctx, const weft_event *e) {
    const aau_worker *w = (const aau_worker *)ctx;
    if (!forged || (w->rank != hostile && e->peer != hostile)) aau_trace(ctx, e);
}

static int prepare(aau_worker *w) {
    const uint32_t *joins = (const uint32_t *)w->t->desc.user; /* one, the first, and perhaps the last: all at once */
    w->desc.trace = trace;
    if (joins && (w->rank == *joins || w->rank == 0 || (w->t->desc.apart && w->rank == w->t->size - 1)))
        w->desc.join = DSGD_AAU_JOIN;
    return 1;
}

/* ---- a run ---- */

static aau_desc settings(const uint8_t *data, const weft_graph *g) {
    static const size_t small[2] = {3, 2}, medium[2] = {30, 9}, large[2] = {150, 20};
    static const weft_dtype wide[2] = {WEFT_F64, WEFT_F64}, single[2] = {WEFT_F32, WEFT_F32};
    static const uint32_t joins[MOST] = {0, 1, 2, 3, 4};
    const int s = data[0], more = data[1], net = data[3];
    aau_desc d = aau_default((uint64_t)net, g);
    d.tensors = 2;
    d.count = s & 1 ? small : s & 2 ? medium : large;
    d.dtype = s & 4 ? single : wide;
    d.steps = STEPS;
    d.d.wire = s & 8 ? DSGD_AAU_WIRE_BF16 : DSGD_AAU_WIRE_OWN;
    d.d.fan = s >> 4 & 3;
    d.d.grace_ns = s & 64 ? 20000 : 0;
    d.d.coalesce_ns = s & 128 ? 30000 : 0;
    d.d.piece_bytes = 1024;
    d.d.isa = WEFT_ISA_SERIAL; /* no looking for what the machine has, each time */
    d.d.patience_ns = more & 1 ? 3000000 : 0;
    d.d.timeout_ns = more & 2 ? 5000000 : 0;
    d.straggle = more & 4 ? 0.2 : 0;
    d.slow = 6;
    d.deaf = more >> 3 & 1;
    d.apart = more >> 4 & 1;
    if (more & 32) d.user = (void *)&joins[more >> 6];
    if (net & 1) d.sim = weft_sim_torture((uint64_t)net, g->workers);
    d.sim.mode = (weft_sim_mode)(net >> 1 & 3);
    d.sim.eager_bytes = 100;
    d.sim.bytes_per_second = net & 8 ? 20000000 : 0;
    d.sim.max_message_bytes = net & 16 ? 512 : 0;
    d.sim.detect_ns = net & 32 ? 50000 : 0;
    d.recover = 1;
    d.prepare = prepare;
    d.sim.on_message = on_message;
    return d;
}

static void plan(void) {
    static const weft_status statuses[2] = {WEFT_ERR_TRANSPORT, WEFT_ERR_MEMORY};
    size_t i;
    for (i = 0; i < operations; i++) {
        const uint8_t *op = script + i * OPERATION;
        uint32_t other = (hostile + 1 + op[1] % (team.size - 1)) % team.size;
        switch (op[0] % DO_KINDS) {
        case DO_XOR: weft_sim_corrupt(&team.sim, hostile, WEFT_SIM_ANY, 0, op[2] + 1u, op[3], op[4]); break;
        case DO_RESIZE:
            weft_sim_resize(&team.sim, hostile, WEFT_SIM_ANY, op[6] & 1u ? 0 : WEFT_SIM_ANY, op[2] + 1u,
                            op[4] + (op[5] % 8u) * 256u);
            break;
        case DO_LOSE:
            broken = 1;
            weft_sim_lose_at_message(&team.sim, other, op[2] + 1u, op[3] & 1);
            if (op[3] & 2u) weft_sim_revive_at(&team.sim, other, 2000000 + op[4] * 20000u);
            break;
        case DO_FAIL:
            failing = broken = 1;
            weft_sim_fail_call(&team.sim, (weft_sim_call)(op[3] % 3), other, op[2] + 1u, statuses[op[4] % 2]);
            break;
        case DO_CUT: broken = 1; break;
        default: break;
        }
    }
}

/* What one of the others leads, it applies itself, and nobody more than there are. */
static int stars(void) {
    size_t i;
    for (i = 0; i < team.stars; i++)
        if (team.star[i].led != 1 || team.star[i].seen > team.star[i].size)
            return aau_fail(&team, "averaging %llu of worker %u: applied by %u of %u, %u times by its leader",
                            (unsigned long long)team.star[i].tx, (unsigned)team.star[i].leader,
                            (unsigned)team.star[i].seen, (unsigned)team.star[i].size, (unsigned)team.star[i].led);
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int kinds[8] = {AAU_RING,  AAU_COMPLETE, AAU_CHAIN,       AAU_STAR,
                                 AAU_TORUS, AAU_COMPLETE, AAU_EXPONENTIAL, AAU_RING};
    weft_graph g;
    aau_desc d;
    void *m;
    size_t i;
    uint32_t r;
    int ok;
    if (size < SETTINGS) return 0;
    script = data + SETTINGS;
    operations = (size - SETTINGS) / OPERATION;
    if (operations > MOST_OPERATIONS) operations = MOST_OPERATIONS;
    memset(verbs, 0, sizeof verbs);
    sent = 0;
    forged = wild = failing = broken = 0;
    for (i = 0; i < operations; i++) forged |= script[i * OPERATION] % DO_KINDS <= DO_RESIZE;
    m = aau_graph(&g, kinds[data[2] >> 2 & 7], 3 + data[2] % 3u, 1);
    hostile = (uint32_t)(data[2] >> 5) % g.workers;
    d = settings(data, &g);
    ok = aau_open(&team, &d);
    if (ok) {
        plan();
        for (r = 0; r < team.size; r++) {
            aau_begin(&team.worker[r]);
            weft_sim_worker(&team.sim, r, step, &team.worker[r]);
        }
        weft_sim_advance(&team.sim, 9000000);
        if (forged) {
            team.desc.sim.on_message = NULL;
            weft_sim_lose_at(&team.sim, hostile, weft_sim_now(&team.sim) + 1);
        }
        ok = aau_finish(&team) && (broken || stars());
        for (r = 0; ok && r < team.size; r++)
            if (!(forged && r == hostile) && !team.worker[r].life && weft_sim_alive(&team.sim, r) &&
                team.worker[r].phase == AAU_GONE && team.worker[r].desc.join == DSGD_AAU_FOUND &&
                team.worker[r].steps != STEPS)
                ok = aau_fail(&team, "worker %u was stopped", (unsigned)r);
        if (weft_sim_most_outstanding(&team.sim) > WEFT_LINK_REQUESTS) ok = aau_fail(&team, "too many requests");
        if (ok && !forged && !broken && !d.user)
            ok = aau_conserved_to(&team, d.dtype[0] == WEFT_F64 ? 1e-12 : 2e-5) && aau_whole_stars(&team);
    }
    if (!aau_close(&team)) {
        if (!wild || !strstr(team.why, "not finite")) {
            fprintf(stderr, "%s\n", team.why);
            abort();
        }
    }
    free(m);
    return 0;
}
