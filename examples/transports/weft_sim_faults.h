/* SPDX-License-Identifier: MIT
 * weft_sim_faults.h: included by weft_sim.h: the faults that are asked for one by one: calls that fail, workers lost
 * and back, messages changed, dropped, forged and held up, connections cut. Each counts how often it has really struck:
 * weft_sim_fired. */
#ifndef WEFT_SIM_FAULTS_H
#define WEFT_SIM_FAULTS_H

#ifndef WEFT_SIM_H
#error "this is a part of weft_sim.h: include that"
#endif

WEFT_FN weft_sim_fault *weft_sim_new_fault(weft_sim *s, weft_sim_kind kind, uint32_t src, uint32_t dst, uint32_t tag,
                                           uint64_t nth) {
    void *p = s->fault;
    weft_sim_fault *f;
    int ok = weft_sim_grow(s, &p, &s->fault_room, s->fault_count, sizeof *s->fault);
    s->fault = (weft_sim_fault *)p;
    if (!ok) return NULL;
    f = &s->fault[s->fault_count++];
    memset(f, 0, sizeof *f);
    f->kind = kind;
    f->src = src;
    f->dst = dst;
    f->tag = tag;
    f->nth = nth;
    f->times = 1;
    return f;
}

WEFT_FN int weft_sim_keep(weft_sim *s, weft_sim_fault *f, const void *data, size_t bytes) {
    f->data = (unsigned char *)malloc(bytes ? bytes : 1);
    if (!f->data) {
        s->no_memory = 1;
        s->fault_count--;
        return 0;
    }
    if (bytes) memcpy(f->data, data, bytes);
    f->bytes = bytes;
    return 1;
}

/* Faults that last from one time to another, and are on the way of messages. */
WEFT_FN int weft_sim_is_window(const weft_sim_fault *f) {
    return f->kind == WEFT_SIM_FAULT_DELAY || f->kind == WEFT_SIM_FAULT_CLOG || f->kind == WEFT_SIM_FAULT_PARTITION;
}

/* A fault has struck. */
WEFT_FN void weft_sim_fire(weft_sim *s, weft_sim_fault *f) {
    uint64_t until = weft_sim_is_window(f) && f->until_ns != WEFT_SIM_FOREVER ? f->until_ns : s->now;
    f->fired++;
    s->happened[f->kind]++;
    if (until > s->trouble_until) s->trouble_until = until;
}

WEFT_FN int weft_sim_fault_id(const weft_sim *s, const weft_sim_fault *f) {
    return f ? (int)(f - s->fault) : -1;
}

/* All of the following return the number of the fault for weft_sim_fired, or -1 without memory. A message fault counts
 * the messages sent from src to dst with tag (each may be WEFT_SIM_ANY) and strikes at the nth, from 1. */

/* The nth call (send, recv or test) of a worker fails with status. */
WEFT_FN int weft_sim_fail_call(weft_sim *s, weft_sim_call call, uint32_t rank, uint64_t nth, weft_status status) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_CALL, rank, WEFT_SIM_ANY, WEFT_SIM_ANY, nth);
    if (!f) return -1;
    f->call = call;
    f->status = status;
    return weft_sim_fault_id(s, f);
}

/* A worker is lost when the nth message of all arrives: just before (after 0) or just after it. */
WEFT_FN int weft_sim_lose_at_message(weft_sim *s, uint32_t rank, uint64_t nth, int after) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_LOSE, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, nth);
    if (!f) return -1;
    f->rank = rank;
    f->after = after;
    return weft_sim_fault_id(s, f);
}

WEFT_FN int weft_sim_timed(weft_sim *s, weft_sim_fault *f, uint64_t at) {
    int id = weft_sim_fault_id(s, f);
    if (id >= 0 && !weft_sim_push(s, at < s->now ? s->now : at, WEFT_SIM_TIMED_FAULT, (uint32_t)id, 0)) return -1;
    return id;
}

WEFT_FN int weft_sim_lose_at(weft_sim *s, uint32_t rank, uint64_t at_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_LOSE, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, 0);
    if (f) f->rank = rank;
    return weft_sim_timed(s, f, at_ns);
}

WEFT_FN int weft_sim_revive_at(weft_sim *s, uint32_t rank, uint64_t at_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_REVIVE, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, 0);
    if (f) f->rank = rank;
    return weft_sim_timed(s, f, at_ns);
}

/* Byte `at` of the nth message is changed by XOR (a message too short for it is left alone, and not counted). */
WEFT_FN int weft_sim_corrupt(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag, uint64_t nth, size_t at,
                             unsigned mask) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_XOR, src, dst, tag, nth);
    if (!f) return -1;
    f->at = at;
    f->mask = mask;
    return weft_sim_fault_id(s, f);
}

/* The nth message has these bytes in place of its own. */
WEFT_FN int weft_sim_replace(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag, uint64_t nth, const void *data,
                             size_t bytes) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_REPLACE, src, dst, tag, nth);
    return f && weft_sim_keep(s, f, data, bytes) ? weft_sim_fault_id(s, f) : -1;
}

/* The nth message is cut, or filled up with zeros, to `bytes`. */
WEFT_FN int weft_sim_resize(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag, uint64_t nth, size_t bytes) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_RESIZE, src, dst, tag, nth);
    if (!f) return -1;
    f->bytes = bytes;
    return weft_sim_fault_id(s, f);
}

/* The nth message vanishes. Outside of the contract: for tests of the tests. */
WEFT_FN int weft_sim_drop(weft_sim *s, uint32_t src, uint32_t dst, uint32_t tag, uint64_t nth) {
    return weft_sim_fault_id(s, weft_sim_new_fault(s, WEFT_SIM_FAULT_DROP, src, dst, tag, nth));
}

/* Right after the nth message of all has arrived, a message that nobody sent arrives. */
WEFT_FN int weft_sim_inject(weft_sim *s, uint64_t nth, uint32_t src, uint32_t dst, uint32_t tag, const void *data,
                            size_t bytes) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_INJECT, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, nth);
    if (!f || !weft_sim_keep(s, f, data, bytes)) return -1;
    f->to_src = src;
    f->to_dst = dst;
    f->to_tag = tag;
    return weft_sim_fault_id(s, f);
}

WEFT_FN int weft_sim_inject_at(weft_sim *s, uint64_t at_ns, uint32_t src, uint32_t dst, uint32_t tag, const void *data,
                               size_t bytes) {
    int id = weft_sim_inject(s, 0, src, dst, tag, data, bytes);
    return id < 0 ? id : weft_sim_timed(s, &s->fault[id], at_ns);
}

/* What is sent from src to dst between two times takes so much longer. */
WEFT_FN int weft_sim_delay(weft_sim *s, uint32_t src, uint32_t dst, uint64_t extra_ns, uint64_t from_ns,
                           uint64_t until_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_DELAY, src, dst, WEFT_SIM_ANY, 0);
    if (!f) return -1;
    f->nth = extra_ns;
    f->from_ns = from_ns;
    f->until_ns = until_ns;
    return weft_sim_fault_id(s, f);
}

/* What is sent from src to dst between two times sets off at the second (WEFT_SIM_FOREVER: never). */
WEFT_FN int weft_sim_clog(weft_sim *s, uint32_t src, uint32_t dst, uint64_t from_ns, uint64_t until_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_CLOG, src, dst, WEFT_SIM_ANY, 0);
    if (!f) return -1;
    f->from_ns = from_ns;
    f->until_ns = until_ns;
    return weft_sim_fault_id(s, f);
}

/* The same from every worker of a group (group[rank] != 0) to every worker outside of it; the other direction works.
 * Over a lossy link, what is sent meanwhile is lost, and sent again. */
WEFT_FN int weft_sim_partition(weft_sim *s, const unsigned char *group, uint64_t from_ns, uint64_t until_ns) {
    weft_sim_fault *f = weft_sim_new_fault(s, WEFT_SIM_FAULT_PARTITION, WEFT_SIM_ANY, WEFT_SIM_ANY, WEFT_SIM_ANY, 0);
    if (!f || !weft_sim_keep(s, f, group, s->desc.size)) return -1;
    f->from_ns = from_ns;
    f->until_ns = until_ns;
    return weft_sim_fault_id(s, f);
}

/* The same in both directions. */
WEFT_FN int weft_sim_split(weft_sim *s, const unsigned char *group, uint64_t from_ns, uint64_t until_ns) {
    int id = weft_sim_partition(s, group, from_ns, until_ns);
    if (id >= 0) s->fault[id].after = 1;
    return id;
}

/* The connection between two workers that live breaks: what is under way is gone, and what either has pending with the
 * other is over with WEFT_ERR_PEER_LOST; calls, too, until weft_sim_connect or weft_sim_connect_at. */
WEFT_FN int weft_sim_cut_at(weft_sim *s, uint32_t a, uint32_t b, uint64_t at_ns) {
    return weft_sim_timed(s, weft_sim_new_fault(s, WEFT_SIM_FAULT_CUT, a, b, WEFT_SIM_ANY, 0), at_ns);
}
WEFT_FN int weft_sim_connect_at(weft_sim *s, uint32_t a, uint32_t b, uint64_t at_ns) {
    return weft_sim_timed(s, weft_sim_new_fault(s, WEFT_SIM_FAULT_RECONNECT, a, b, WEFT_SIM_ANY, 0), at_ns);
}

/* A worker is not there before at_ns; then it joins (on_change, alive 1), without anything having been lost. */
WEFT_FN int weft_sim_join_at(weft_sim *s, uint32_t rank, uint64_t at_ns) {
    weft_sim_absent(s, rank);
    return weft_sim_revive_at(s, rank, at_ns);
}

/* A fault that counts (calls or messages) strikes so many times in a row from its nth on; WEFT_SIM_FOREVER: always. */
WEFT_FN void weft_sim_times(weft_sim *s, int fault, uint64_t times) {
    if (fault >= 0) s->fault[fault].times = times;
}

/* How often a fault has really struck. */
WEFT_FN uint64_t weft_sim_fired(const weft_sim *s, int fault) {
    return fault < 0 ? 0 : s->fault[fault].fired;
}

/* Does this partition stand between src and dst? */
WEFT_FN int weft_sim_parts(const weft_sim_fault *f, uint32_t src, uint32_t dst) {
    return f->after ? !f->data[src] != !f->data[dst] : f->data[src] && !f->data[dst];
}

/* Has this fault to do with what goes from src to dst? */
WEFT_FN int weft_sim_concerns(const weft_sim_fault *f, uint32_t src, uint32_t dst, uint32_t tag) {
    return (f->src == WEFT_SIM_ANY || f->src == src) && (f->dst == WEFT_SIM_ANY || f->dst == dst) &&
           (f->tag == WEFT_SIM_ANY || f->tag == tag) &&
           (f->kind != WEFT_SIM_FAULT_PARTITION || weft_sim_parts(f, src, dst));
}

/* Counts, and says whether the fault strikes now. */
WEFT_FN int weft_sim_strikes(weft_sim_fault *f) {
    f->seen++;
    return f->nth && f->seen >= f->nth && f->seen - f->nth < f->times;
}

#endif /* WEFT_SIM_FAULTS_H */
