/* SPDX-License-Identifier: MIT
 * weft_sim_lossy.h: included by weft_sim.h: links that lose, duplicate and reorder packets, below an adapter that makes
 * them reliable. What is above sees what TCP makes of a bad network: everything arrives once and in order, some of it
 * late, and all that was sent behind a lost packet with it.
 *
 * One connection a link and direction. A message is cut into packets, numbered one after the other; at most a window of
 * them is under way. The receiver keeps what comes ahead of its turn, throws away what it has, and answers every packet
 * with the number that it expects next; answers get lost, too. The sender sends the first packet without an answer once
 * more when its timer fires (which then waits twice as long), when three answers in a row name it, and, while it makes
 * good a loss, whenever an answer shows the next hole. After too many timeouts in a row it gives the peer up.
 *
 * Every packet and every answer is an event. Links without such faults take no part in any of this. */
#ifndef WEFT_SIM_LOSSY_H
#define WEFT_SIM_LOSSY_H

#ifndef WEFT_SIM_H
#error "this is a part of weft_sim.h: include that"
#endif

WEFT_FN int weft_sim_is_lossy(const weft_sim_lossy *how) {
    return how->packet_bytes || how->loss_ppm || how->duplicate_ppm || how->reorder_ppm || how->reorder_ns ||
           how->timeout_ns || how->most_timeout_ns || how->window || how->retries;
}

WEFT_FN int weft_sim_chance(weft_sim *s, uint32_t ppm) {
    return ppm && weft_sim_draw(&s->rng_packet) % 1000000u < ppm;
}

/* The longest that a packet without bad luck takes, but for its bytes. */
WEFT_FN uint64_t weft_sim_longest(const weft_sim *s, uint32_t link) {
    const weft_sim_link *l = &s->link[link];
    uint64_t ns = l->own ? l->latency_ns + l->jitter_ns : s->desc.latency_ns + s->desc.jitter_ns;
    return ns > 500 ? ns : 500;
}

WEFT_FN void weft_sim_set_how(weft_sim *s, weft_sim_pipe *p, const weft_sim_lossy *how) {
    uint32_t packet_bytes = p->how.packet_bytes; /* what queues is counted in these */
    p->how = *how;
    if (packet_bytes) p->how.packet_bytes = packet_bytes;
    if (!p->how.packet_bytes) p->how.packet_bytes = 1400;
    if (!p->how.window || p->how.window > WEFT_SIM_WINDOW) p->how.window = WEFT_SIM_WINDOW;
    if (!p->how.reorder_ns) p->how.reorder_ns = 2 * weft_sim_longest(s, p->there);
    if (!p->how.timeout_ns)
        p->how.timeout_ns = 2 * (weft_sim_longest(s, p->there) + weft_sim_longest(s, p->back)) +
                            (p->how.reorder_ppm ? p->how.reorder_ns : 0);
    if (!p->how.most_timeout_ns) p->how.most_timeout_ns = 64 * p->how.timeout_ns;
}

/* The connection of a link, made if there is none; WEFT_SIM_NONE without memory. */
WEFT_FN uint32_t weft_sim_pipe_of(weft_sim *s, uint32_t link, const weft_sim_lossy *how) {
    void *array = s->pipe;
    weft_sim_pipe *p;
    uint32_t back;
    int ok;
    if (s->link[link].pipe) return s->link[link].pipe - 1;
    back = weft_sim_find_link(s, s->link[link].dst, s->link[link].src);
    ok = weft_sim_grow(s, &array, &s->pipe_room, s->pipe_count, sizeof *s->pipe);
    s->pipe = (weft_sim_pipe *)array;
    if (!ok || back == WEFT_SIM_NONE) return WEFT_SIM_NONE;
    p = &s->pipe[s->pipe_count];
    memset(p, 0, sizeof *p);
    p->there = link;
    p->back = back;
    p->msg_first = p->msg_last = p->cursor = WEFT_SIM_NONE;
    weft_sim_set_how(s, p, how);
    s->link[link].pipe = ++s->pipe_count;
    return s->pipe_count - 1;
}

/* What the planted faults do to a packet that sets off now: *start and *extra grow; 1: it does not get through. */
WEFT_FN int weft_sim_held_up(weft_sim *s, uint32_t src, uint32_t dst, uint64_t *start, uint64_t *extra) {
    uint32_t i;
    int lost = 0;
    for (i = 0; i < s->fault_count; i++) {
        weft_sim_fault *f = &s->fault[i];
        if (!weft_sim_is_window(f) || s->now < f->from_ns || s->now >= f->until_ns ||
            !weft_sim_concerns(f, src, dst, WEFT_SIM_ANY))
            continue;
        weft_sim_fire(s, f);
        if (f->kind == WEFT_SIM_FAULT_DELAY) *extra += f->nth;
        else if (f->kind == WEFT_SIM_FAULT_PARTITION || f->until_ns == WEFT_SIM_FOREVER) lost = 1;
        else if (*start < f->until_ns) *start = f->until_ns;
    }
    return lost;
}

/* Will nothing ever get from src to dst again? */
WEFT_FN int weft_sim_shut(const weft_sim *s, uint32_t src, uint32_t dst, uint32_t loss_ppm) {
    uint32_t i;
    if (loss_ppm >= 1000000u) return 1;
    for (i = 0; i < s->fault_count; i++) {
        const weft_sim_fault *f = &s->fault[i];
        if (f->until_ns == WEFT_SIM_FOREVER && s->now >= f->from_ns &&
            (f->kind == WEFT_SIM_FAULT_PARTITION || f->kind == WEFT_SIM_FAULT_CLOG) &&
            weft_sim_concerns(f, src, dst, WEFT_SIM_ANY))
            return 1;
    }
    return 0;
}

/* How an answer fares that goes against the direction of this connection. */
WEFT_FN uint32_t weft_sim_ack_loss(const weft_sim *s, const weft_sim_pipe *p) {
    const weft_sim_link *l = &s->link[p->back];
    return l->pipe ? s->pipe[l->pipe - 1].how.loss_ppm : l->own_pipe ? 0 : s->desc.lossy.loss_ppm;
}

WEFT_FN void weft_sim_arm(weft_sim *s, uint32_t pipe) {
    weft_sim_pipe *p = &s->pipe[pipe];
    uint64_t free_at = s->link[p->there].free_at, wait = p->how.timeout_ns;
    uint32_t k;
    for (k = 0; k < p->tries && wait < p->how.most_timeout_ns; k++) wait *= 2;
    if (wait > p->how.most_timeout_ns) wait = p->how.most_timeout_ns;
    p->deadline = (free_at > s->now ? free_at : s->now) + wait; /* what still queues here is not late */
    if (p->pending && p->timer_at <= p->deadline) return; /* the timer under way looks at the deadline when it fires */
    p->pending = 1;
    p->timer_at = p->deadline;
    weft_sim_push(s, p->deadline, WEFT_SIM_RETRY, pipe, p->epoch);
}

WEFT_FN void weft_sim_transmit(weft_sim *s, uint32_t pipe, uint32_t seq, int again) {
    weft_sim_pipe *p = &s->pipe[pipe];
    weft_sim_link *l = &s->link[p->there];
    uint64_t bytes = p->bytes[seq % WEFT_SIM_WINDOW], ps = l->own ? l->ps_per_byte : s->ps_per_byte;
    uint64_t start = l->free_at > s->now ? l->free_at : s->now, extra = 0;
    int lost = weft_sim_held_up(s, l->src, l->dst, &start, &extra);
    l->free_at = start + bytes / 1000 * ps + bytes % 1000 * ps / 1000;
    p->count.sent++;
    if (again) {
        p->count.again++;
        s->happened[WEFT_SIM_PACKET_AGAIN]++;
        weft_sim_note(s, "again", l->src, l->dst, WEFT_SIM_NONE, seq);
    }
    if (lost || weft_sim_chance(s, p->how.loss_ppm)) {
        p->count.lost++;
        s->happened[WEFT_SIM_PACKET_LOST]++;
        weft_sim_note(s, "lost", l->src, l->dst, WEFT_SIM_NONE, seq);
        return;
    }
    if (weft_sim_chance(s, p->how.duplicate_ppm)) {
        p->count.duplicated++;
        s->happened[WEFT_SIM_PACKET_TWICE]++;
        weft_sim_note(s, "twice", l->src, l->dst, WEFT_SIM_NONE, seq);
        weft_sim_push_seq(s, l->free_at + weft_sim_latency(s, l) + extra, WEFT_SIM_PACKET, pipe, p->epoch, seq);
    }
    if (weft_sim_chance(s, p->how.reorder_ppm)) {
        p->count.reordered++;
        s->happened[WEFT_SIM_PACKET_LATE]++;
        weft_sim_note(s, "late", l->src, l->dst, WEFT_SIM_NONE, seq);
        extra += p->how.reorder_ns;
    }
    weft_sim_push_seq(s, l->free_at + weft_sim_latency(s, l) + extra, WEFT_SIM_PACKET, pipe, p->epoch, seq);
}

/* Sends what the window has room for. */
WEFT_FN void weft_sim_pump(weft_sim *s, uint32_t pipe) {
    weft_sim_pipe *p = &s->pipe[pipe];
    while (p->cursor != WEFT_SIM_NONE && p->next - p->acked < p->how.window) {
        size_t left = s->msg[p->cursor].bytes - p->sent_of_cursor;
        uint32_t bytes = left < p->how.packet_bytes ? (uint32_t)left : p->how.packet_bytes;
        p->bytes[p->next % WEFT_SIM_WINDOW] = bytes;
        p->sent_of_cursor += bytes;
        if (bytes == left) {
            p->cursor = s->msg[p->cursor].next;
            p->sent_of_cursor = 0;
        }
        weft_sim_transmit(s, pipe, p->next++, 0);
        if (!p->pending) weft_sim_arm(s, pipe);
    }
}

WEFT_FN weft_status weft_sim_enqueue(weft_sim *s, uint32_t link, uint32_t msg) {
    uint32_t pipe = weft_sim_pipe_of(s, link, &s->desc.lossy);
    weft_sim_pipe *p;
    weft_sim_msg *m = &s->msg[msg];
    if (pipe == WEFT_SIM_NONE) return WEFT_ERR_MEMORY;
    p = &s->pipe[pipe];
    p->queued += m->bytes ? (uint32_t)((m->bytes - 1) / p->how.packet_bytes) + 1 : 1;
    m->end = p->queued;
    if (p->msg_last != WEFT_SIM_NONE) s->msg[p->msg_last].next = msg;
    if (p->msg_first == WEFT_SIM_NONE) p->msg_first = msg;
    if (p->cursor == WEFT_SIM_NONE) p->cursor = msg;
    p->msg_last = msg;
    weft_sim_pump(s, pipe);
    return WEFT_OK;
}

/* A packet has come through. */
WEFT_FN void weft_sim_packet(weft_sim *s, uint32_t pipe, uint32_t epoch, uint32_t seq) {
    weft_sim_pipe *p = &s->pipe[pipe];
    uint32_t ahead = seq - p->expected;
    uint64_t start = s->now, extra = 0;
    const weft_sim_link *back = &s->link[p->back];
    int lost;
    if (p->epoch != epoch) return;
    if (ahead >= WEFT_SIM_WINDOW || (p->here >> ahead & 1)) {
        p->count.discarded++;
    } else {
        p->here |= UINT64_C(1) << ahead;
        p->count.ahead += ahead != 0;
        while (p->here & 1) {
            p->here >>= 1;
            p->expected++;
        }
    }
    p->count.acks++;
    lost = weft_sim_held_up(s, back->src, back->dst, &start, &extra);
    if (lost || weft_sim_chance(s, weft_sim_ack_loss(s, p))) {
        p->count.acks_lost++;
        s->happened[WEFT_SIM_ACK_LOST]++;
        weft_sim_note(s, "ack lost", back->src, back->dst, WEFT_SIM_NONE, p->expected);
    } else {
        weft_sim_push_seq(s, start + weft_sim_latency(s, back) + extra, WEFT_SIM_ACK, pipe, epoch, p->expected);
    }
    while (p->msg_first != WEFT_SIM_NONE && p->expected - s->msg[p->msg_first].end < UINT32_C(0x80000000)) {
        uint32_t msg = p->msg_first;
        p->msg_first = s->msg[msg].next;
        if (p->msg_first == WEFT_SIM_NONE) p->msg_last = WEFT_SIM_NONE;
        s->msg[msg].next = WEFT_SIM_NONE;
        weft_sim_arrival(s, msg);
        p = &s->pipe[pipe];
        if (p->epoch != epoch) return; /* its arrival has cost somebody's life */
    }
}

/* An answer has come: everything before `seq` is there. */
WEFT_FN void weft_sim_ack(weft_sim *s, uint32_t pipe, uint32_t epoch, uint32_t seq) {
    weft_sim_pipe *p = &s->pipe[pipe];
    if (p->epoch != epoch || seq - p->acked > p->next - p->acked) return; /* of before, or overtaken */
    if (seq == p->acked) {
        if (p->acked == p->next || p->recovering || ++p->same < 3) return;
        p->recovering = 1;
        p->recover = p->next;
        weft_sim_transmit(s, pipe, p->acked, 1);
        return;
    }
    p->acked = seq;
    p->tries = p->same = 0;
    if (p->recovering && seq - p->recover < UINT32_C(0x80000000)) p->recovering = 0;
    if (p->recovering) weft_sim_transmit(s, pipe, p->acked, 1);
    if (p->acked != p->next) weft_sim_arm(s, pipe);
    weft_sim_pump(s, pipe);
}

/* The timer has fired. */
WEFT_FN void weft_sim_retry(weft_sim *s, uint32_t pipe, uint32_t epoch) {
    weft_sim_pipe *p = &s->pipe[pipe];
    const weft_sim_link *l = &s->link[p->there];
    if (p->epoch != epoch || !p->pending || p->timer_at != s->now) return;
    p->pending = 0;
    if (p->acked == p->next) return;
    if (p->deadline > s->now) { /* it was put off meanwhile */
        p->pending = 1;
        p->timer_at = p->deadline;
        weft_sim_push(s, p->deadline, WEFT_SIM_RETRY, pipe, epoch);
        return;
    }
    p->count.timeouts++;
    p->tries++;
    if (p->how.retries && p->tries > p->how.retries) {
        p->count.given_up++;
        s->happened[WEFT_SIM_GIVEN_UP]++;
        weft_sim_disconnect(s, l->src, l->dst, 1);
        return;
    }
    p->recovering = 1;
    p->recover = p->next;
    weft_sim_transmit(s, pipe, p->acked, 1);
    /* If all that can be is in vain for ever, nothing more is tried, so that a deadlock is one. */
    if (!p->how.retries && (weft_sim_shut(s, l->src, l->dst, p->how.loss_ppm) ||
                            (p->expected != p->acked && weft_sim_shut(s, l->dst, l->src, weft_sim_ack_loss(s, p)))))
        return;
    weft_sim_arm(s, pipe);
}

/* ---- what a user calls ---- */

/* One link, in one direction, with losses of its own; all zero: none, whatever the descriptor says. May be changed at
 * any time; a link over which something was sent with losses keeps its adapter and its packet_bytes. */
WEFT_FN void weft_sim_set_lossy(weft_sim *s, uint32_t src, uint32_t dst, const weft_sim_lossy *how) {
    uint32_t link = weft_sim_find_link(s, src, dst), pipe;
    if (link == WEFT_SIM_NONE) return;
    s->link[link].own_pipe = 1;
    if (!s->link[link].pipe && !weft_sim_is_lossy(how)) return;
    pipe = weft_sim_pipe_of(s, link, how);
    if (pipe == WEFT_SIM_NONE) return;
    weft_sim_set_how(s, &s->pipe[pipe], how);
    if (s->pipe[pipe].acked != s->pipe[pipe].next) weft_sim_arm(s, pipe);
}

/* What has become of the packets from src to dst, each of which may be WEFT_SIM_ANY. */
WEFT_FN weft_sim_packets weft_sim_packets_of(const weft_sim *s, uint32_t src, uint32_t dst) {
    weft_sim_packets sum;
    uint32_t i;
    memset(&sum, 0, sizeof sum);
    for (i = 0; i < s->pipe_count; i++) {
        const weft_sim_packets *c = &s->pipe[i].count;
        const weft_sim_link *l = &s->link[s->pipe[i].there];
        if ((src != WEFT_SIM_ANY && l->src != src) || (dst != WEFT_SIM_ANY && l->dst != dst)) continue;
        sum.sent += c->sent;
        sum.lost += c->lost;
        sum.duplicated += c->duplicated;
        sum.reordered += c->reordered;
        sum.again += c->again;
        sum.ahead += c->ahead;
        sum.discarded += c->discarded;
        sum.acks += c->acks;
        sum.acks_lost += c->acks_lost;
        sum.timeouts += c->timeouts;
        sum.given_up += c->given_up;
    }
    return sum;
}

#endif /* WEFT_SIM_LOSSY_H */
