/* SPDX-License-Identifier: MIT
 * weft_members.h: who is in. Workers that have nobody above them agree on views among themselves, over any transport
 * that tells of lost peers: one view for all survivors, with an epoch, as X_regroup wants it.
 *
 *     weft_members crowd;
 *     weft_members_options o = {0};
 *     o.tag = 15 * WEFT_TAGS_PER_CHANNEL;  o.silence_ns = 10000000000u;
 *     weft_members_init(&crowd, &net, &o);
 *     ...
 *     while ((s = X_poll(x)) == WEFT_AGAIN || s == WEFT_ERR_PEER_LOST) {
 *         if (s == WEFT_ERR_PEER_LOST) weft_members_need(&crowd);              // nothing goes on without a new view
 *         while (weft_tcp_news(&tcp, &rank, &up)) (up ? weft_members_up : weft_members_lost)(&crowd, rank);
 *         if (weft_members_poll(&crowd)) X_regroup(x, weft_members_view(&crowd));  // X_peer_lost, X_peer_up before it
 *         if (weft_members_out(&crowd)) break;                                 // the others went on without this one
 *         net.wait(net.ctx, soon);
 *     }
 *
 * How. Every worker tells all others its whole state in one letter, whenever that changes, and every beat_ns: the view
 * that it is in, whom it has lost, what it wants. Letters replace each other, so a lost or late one does no harm. The
 * lowest rank of a view that is still seen, be it by those whom one sees, leads: when somebody is lost for longer than
 * grace_ns, when somebody needs a view, or wants to come in and hears all, it makes the next one. Whoever hears of a
 * view with a higher epoch that it is in takes it over, from whomever; so a view outlives the leader that could tell
 * only one worker of it. Epochs of different leaders differ: the view's number times size, and more for the lower rank.
 * A link that broke and came again within grace_ns costs a view of the same members. Where two that both live have lost
 * each other, the higher rank is left out. Who is left out learns so when it hears any of the others; it may come in
 * again, with another `life`.
 *
 * What is promised. Crash-stop: survivors that hear each other end in one view, whatever was lost meanwhile, and nobody
 * is in two lives at once. Who falls silent for silence_ns (a stopped process, a machine without power) counts as
 * lost; a worker that computes must poll more often than that, at every step, say. A network that falls in two leaves a
 * view on each side, of which weft_members_half tells the smaller one: whether it stops is the host's affair. When the
 * sides hear each other again, the one with the later epoch goes on (of two that made equally many views: the lower
 * rank's), and the other is out.
 *
 * One object is one thread's. Nothing is allocated. Include this file after one of the weft headers. */
#ifndef WEFT_MEMBERS_H
#define WEFT_MEMBERS_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_members.h"
#endif

#include <string.h>

#ifndef WEFT_MEMBERS_MOST
#define WEFT_MEMBERS_MOST 64u /* ranks */
#endif

enum {
    WEFT_MEMBERS_VERSION = 1,
    WEFT_MEMBERS_SET = (WEFT_MEMBERS_MOST + 7) / 8,
    /* u32 magic, u16 version, u16 wants, u32 size, u32 rank, u32 epoch, u32 asks, u64 life; then the sets: view, new in
     * it, lost, heard, may go; then a life for each rank */
    WEFT_MEMBERS_HEAD = 32,
    WEFT_MEMBERS_LETTER = WEFT_MEMBERS_HEAD + 5 * WEFT_MEMBERS_SET + 8 * (int)WEFT_MEMBERS_MOST
};

#define WEFT_MEMBERS_MAGIC 0x77656674u /* "weft" */

/* What a worker wants, lowest byte of `wants`; and a bit beside it. */
enum { WEFT_MEMBERS_STAYS = 0, WEFT_MEMBERS_JOINS = 1, WEFT_MEMBERS_GOES = 2, WEFT_MEMBERS_DONE = 3 };
enum { WEFT_MEMBERS_NEEDS = 256 };

/* Zero is the default. */
typedef struct weft_members_options {
    uint32_t tag;      /* the same on all workers, used by nobody else */
    uint64_t life;     /* 0: here from the beginning; else this worker comes later, or again: a number that none of its
                          * lives before had (the time of day in nanoseconds will do) */
    uint64_t beat_ns;  /* a letter at least so often; default 100 ms */
    uint64_t grace_ns; /* a link may be gone for so long; default 200 ms; WEFT_MEMBERS_AT_ONCE: not at all */
    uint64_t silence_ns; /* who is not heard of for so long is lost; 0: never */
} weft_members_options;

#define WEFT_MEMBERS_AT_ONCE UINT64_MAX

/* A worker, as this one sees it. */
typedef struct weft_members_peer {
    unsigned char in[WEFT_MEMBERS_LETTER + 1], out[WEFT_MEMBERS_LETTER]; /* + 1: a letter that is too long shows */
    weft_request receive, send;
    int receiving, sending, stale; /* stale: it has not been told the present state */
    int linked, lost, heard;       /* heard: on this link, */
    int life_known;                /* or on any before */
    int accused;                   /* by somebody whom this worker does see */
    uint64_t lost_ns, accused_ns, heard_ns, told_ns;
    /* of its last letter */
    uint32_t wants, epoch, asks;
    uint64_t life;
    unsigned char sees[WEFT_MEMBERS_SET], misses[WEFT_MEMBERS_SET], lets[WEFT_MEMBERS_SET];
    /* of the view */
    int member, fresh;
    uint64_t life_in_view;
    uint64_t fed; /* the life whose wish has been granted */
} weft_members_peer;

typedef struct weft_members {
    const weft_transport *net;
    weft_members_options options;
    uint32_t rank, size, epoch, wants, asks;
    int needs, out, news, begun;
    uint64_t polled_ns;
    uint64_t views; /* taken over or made, for whoever counts */
    weft_members_peer peer[WEFT_MEMBERS_MOST];
    uint32_t list[WEFT_MEMBERS_MOST];
    weft_view view;
} weft_members;

WEFT_INLINE void weft_members_put(unsigned char *p, size_t bytes, uint64_t v) {
    size_t i;
    for (i = 0; i < bytes; i++) p[i] = (unsigned char)(v >> (8 * i));
}

WEFT_INLINE uint64_t weft_members_get(const unsigned char *p, size_t bytes) {
    uint64_t v = 0;
    while (bytes--) v = v << 8 | p[bytes];
    return v;
}

WEFT_INLINE int weft_members_has(const unsigned char *set, uint32_t rank) {
    return set[rank / 8] >> (rank % 8) & 1;
}

WEFT_INLINE void weft_members_add(unsigned char *set, uint32_t rank) {
    set[rank / 8] = (unsigned char)(set[rank / 8] | 1u << (rank % 8));
}

WEFT_INLINE uint64_t weft_members_now(const weft_members *m) {
    return m->net->now ? m->net->now(m->net->ctx) : 0;
}

WEFT_INLINE size_t weft_members_set_bytes(const weft_members *m) {
    return (m->size + 7) / 8;
}

WEFT_INLINE size_t weft_members_letter_bytes(const weft_members *m) {
    return WEFT_MEMBERS_HEAD + 5 * weft_members_set_bytes(m) + 8 * (size_t)m->size;
}

/* All are to be told. */
WEFT_INLINE void weft_members_tell(weft_members *m) {
    uint32_t r;
    for (r = 0; r < m->size; r++) m->peer[r].stale = 1;
}

WEFT_INLINE int weft_members_parted(const weft_members_peer *p) {
    const uint32_t wants = p->wants & 255u;
    return wants == WEFT_MEMBERS_GOES || wants == WEFT_MEMBERS_DONE;
}

/* ---- Links ---- */

WEFT_INLINE void weft_members_drop(weft_members *m, uint32_t rank) {
    weft_members_peer *p = &m->peer[rank];
    if (rank == m->rank || rank >= m->size || !p->linked) return;
    p->fed = 0; /* what was being sent to it is lost, too */
    if (p->receiving) m->net->cancel(m->net->ctx, &p->receive);
    if (p->sending) m->net->cancel(m->net->ctx, &p->send);
    p->receiving = p->sending = p->linked = p->heard = 0;
    if (!p->lost) {
        p->lost = 1;
        p->lost_ns = weft_members_now(m);
        if (p->member && !weft_members_parted(p)) m->needs = 1;
    }
    weft_members_tell(m);
}

/* ---- What is said ---- */

WEFT_INLINE void weft_members_write(weft_members *m, unsigned char *p) {
    const size_t set = weft_members_set_bytes(m);
    unsigned char *view = p + WEFT_MEMBERS_HEAD, *fresh = view + set, *lost = fresh + set, *heard = lost + set;
    unsigned char *lets = heard + set, *life = lets + set;
    uint32_t r;
    memset(p, 0, weft_members_letter_bytes(m));
    weft_members_put(p, 4, WEFT_MEMBERS_MAGIC);
    weft_members_put(p + 4, 2, WEFT_MEMBERS_VERSION);
    weft_members_put(p + 6, 2, m->wants | (m->needs ? (unsigned)WEFT_MEMBERS_NEEDS : 0u));
    weft_members_put(p + 8, 4, m->size);
    weft_members_put(p + 12, 4, m->rank);
    weft_members_put(p + 16, 4, m->epoch);
    weft_members_put(p + 20, 4, m->asks);
    weft_members_put(p + 24, 8, m->options.life);
    for (r = 0; r < m->size; r++) {
        const weft_members_peer *q = &m->peer[r];
        if (q->member) weft_members_add(view, r);
        if (q->fresh) weft_members_add(fresh, r);
        if (q->lost) weft_members_add(lost, r);
        if ((q->heard && !q->lost) || r == m->rank) weft_members_add(heard, r);
        if ((q->wants & 255u) == WEFT_MEMBERS_GOES && q->epoch == m->epoch) weft_members_add(lets, r);
        weft_members_put(life + 8 * (size_t)r, 8, q->life_in_view);
    }
}

WEFT_INLINE void weft_members_send(weft_members *m, uint32_t rank, uint64_t now) {
    weft_members_peer *p = &m->peer[rank];
    if (p->sending) {
        const weft_status s = m->net->test(m->net->ctx, &p->send);
        if (s == WEFT_AGAIN) return;
        p->sending = 0;
        if (s != WEFT_OK) {
            weft_members_drop(m, rank);
            return;
        }
    }
    if (!p->stale && now - p->told_ns < m->options.beat_ns) return;
    weft_members_write(m, p->out);
    memset(&p->send, 0, sizeof p->send);
    if (m->net->send(m->net->ctx, rank, m->options.tag, p->out, weft_members_letter_bytes(m), &p->send) != WEFT_OK) {
        weft_members_drop(m, rank);
        return;
    }
    p->sending = 1;
    p->stale = 0;
    p->told_ns = now;
}

/* ---- Views ---- */

/* Are less than half of all ranks in the view, or half without rank 0? Then others may go on elsewhere. */
WEFT_INLINE int weft_members_half(const weft_members *m) {
    return 2 * m->view.count < m->size || (2 * m->view.count == m->size && !m->peer[0].member);
}

/* Of a letter, or of this worker's own making. The caller has seen that this worker is in it. */
WEFT_INLINE void weft_members_take(weft_members *m, uint32_t epoch, const unsigned char *view,
                                   const unsigned char *fresh, const unsigned char *life) {
    uint32_t r;
    m->view.count = 0;
    for (r = 0; r < m->size; r++) {
        weft_members_peer *p = &m->peer[r];
        p->member = weft_members_has(view, r);
        p->fresh = p->member && weft_members_has(fresh, r);
        if (p->member && p->life_in_view != weft_members_get(life + 8 * (size_t)r, 8)) { /* what was lost was another */
            p->life_in_view = weft_members_get(life + 8 * (size_t)r, 8);
            p->lost = r != m->rank && (!p->linked || (p->heard && p->life != p->life_in_view));
            p->lost_ns = p->heard_ns = weft_members_now(m);
        }
        if (p->member) m->list[m->view.count++] = r;
    }
    m->epoch = m->view.epoch = epoch;
    if (m->wants == WEFT_MEMBERS_JOINS) m->wants = WEFT_MEMBERS_STAYS;
    m->needs = 0;
    m->news = 1;
    m->views++;
    weft_members_tell(m);
}

/* 0: no letter. */
WEFT_INLINE int weft_members_read(weft_members *m, uint32_t rank, uint64_t bytes) {
    weft_members_peer *p = &m->peer[rank];
    const size_t set = weft_members_set_bytes(m);
    const unsigned char *in = p->in, *view = in + WEFT_MEMBERS_HEAD, *fresh = view + set, *life = view + 5 * set;
    const uint32_t wants = (uint32_t)weft_members_get(in + 6, 2);
    const uint64_t its_life = weft_members_get(in + 24, 8);
    if (bytes != weft_members_letter_bytes(m) || weft_members_get(in, 4) != WEFT_MEMBERS_MAGIC ||
        weft_members_get(in + 4, 2) != WEFT_MEMBERS_VERSION || (wants & 255u) > WEFT_MEMBERS_DONE ||
        (wants & ~255u & ~(uint32_t)WEFT_MEMBERS_NEEDS) != 0 || weft_members_get(in + 8, 4) != m->size ||
        weft_members_get(in + 12, 4) != rank || weft_members_get(in + 16, 4) > UINT32_MAX - 2 * (uint64_t)m->size)
        return 0;
    if (!p->heard || p->wants != wants || p->life != its_life) weft_members_tell(m);
    p->wants = wants;
    p->epoch = (uint32_t)weft_members_get(in + 16, 4);
    p->asks = (uint32_t)weft_members_get(in + 20, 4);
    p->life = its_life;
    p->life_known = 1;
    memcpy(p->misses, view + 2 * set, set);
    memcpy(p->sees, view + 3 * set, set);
    memcpy(p->lets, view + 4 * set, set);
    p->heard = 1;
    p->heard_ns = weft_members_now(m);
    if (p->member && p->life != p->life_in_view && !p->lost) { /* then that life is over: see _lead */
        p->lost = 1;
        p->lost_ns = weft_members_now(m);
    } else if (!p->member || p->life == p->life_in_view)
        p->lost = 0;
    if ((wants & 255u) == WEFT_MEMBERS_JOINS) return 1; /* it is in none */
    if (m->out || !(p->epoch > m->epoch || (m->wants == WEFT_MEMBERS_JOINS && p->epoch))) return 1;
    if (weft_members_has(view, m->rank) && weft_members_get(life + 8 * (size_t)m->rank, 8) == m->options.life)
        weft_members_take(m, p->epoch, view, fresh, life);
    else if (m->wants != WEFT_MEMBERS_JOINS)
        m->out = 1;
    return 1;
}

WEFT_INLINE void weft_members_hear(weft_members *m, uint32_t rank) {
    weft_members_peer *p = &m->peer[rank];
    while (p->linked) {
        weft_status s;
        if (!p->receiving) {
            memset(&p->receive, 0, sizeof p->receive);
            if (m->net->recv(m->net->ctx, rank, m->options.tag, p->in, weft_members_letter_bytes(m) + 1, &p->receive) !=
                WEFT_OK) {
                weft_members_drop(m, rank);
                return;
            }
            p->receiving = 1;
        }
        s = m->net->test(m->net->ctx, &p->receive);
        if (s == WEFT_AGAIN) return;
        p->receiving = 0;
        if (s != WEFT_OK || !weft_members_read(m, rank, p->receive.bytes)) weft_members_drop(m, rank);
    }
}

/* The link to this worker is gone (a request that fails says the same by itself). What it has said last is still read:
 * it may have been good-bye. */
WEFT_INLINE void weft_members_lost(weft_members *m, uint32_t rank) {
    if (rank >= m->size) return;
    weft_members_hear(m, rank);
    weft_members_drop(m, rank);
}

/* There is one again. */
WEFT_INLINE void weft_members_up(weft_members *m, uint32_t rank) {
    weft_members_peer *p = &m->peer[rank];
    if (rank == m->rank || rank >= m->size) return;
    weft_members_lost(m, rank);
    p->linked = p->stale = 1;
    p->heard_ns = weft_members_now(m);
}

/* Who leads: the lowest rank of the view that anybody sees whom this worker sees. */
WEFT_INLINE uint32_t weft_members_leader(const weft_members *m) {
    uint32_t r, k;
    for (r = 0; r < m->size; r++) {
        if (!m->peer[r].member) continue;
        if (r == m->rank || !m->peer[r].lost) return r;
        for (k = 0; k < m->size; k++)
            if (m->peer[k].member && m->peer[k].heard && !m->peer[k].lost && weft_members_has(m->peer[k].sees, r))
                return r;
    }
    return WEFT_NO_RANK;
}

/* (`since` may be later than `now`, which was looked at first) */
WEFT_INLINE int weft_members_over(uint64_t now, uint64_t since, uint64_t limit) {
    return limit == WEFT_MEMBERS_AT_ONCE || (now >= since && now - since >= limit);
}

/* Of two that know nothing of each other the lower rank's view is the later one: if a link heals that had cut off a
 * worker, that worker is left out, and not the others. */
WEFT_INLINE uint32_t weft_members_next_epoch(const weft_members *m) {
    return (m->epoch / m->size + 1) * m->size + (m->size - 1 - m->rank);
}

/* Leading: is a new view due, and who is in it? */
WEFT_INLINE void weft_members_lead(weft_members *m, uint64_t now) {
    unsigned char view[WEFT_MEMBERS_SET], fresh[WEFT_MEMBERS_SET], life[8 * WEFT_MEMBERS_MOST];
    int due = m->needs, patient = 0, ending = m->wants != WEFT_MEMBERS_STAYS;
    uint32_t r, k;
    memset(view, 0, sizeof view);
    memset(fresh, 0, sizeof fresh);
    if (m->wants != WEFT_MEMBERS_GOES)
        weft_members_add(view, m->rank); /* it may be gone already, and lead all the same */
    for (r = 0; r < m->size; r++) m->peer[r].accused = 0;
    for (r = 0; r < m->size; r++) { /* who is there of those who were */
        weft_members_peer *p = &m->peer[r];
        if (r == m->rank || !p->member) continue;
        ending |= weft_members_parted(p);
        if (p->heard && p->life != p->life_in_view) {
            due = 1; /* that life is over */
            continue;
        }
        if (p->lost) {
            if (!weft_members_parted(p)) due = 1;
            if (!weft_members_over(now, p->lost_ns, m->options.grace_ns)) patient = 1;
            continue;
        }
        if (p->wants & WEFT_MEMBERS_NEEDS && p->epoch == m->epoch) due = 1;
        if ((p->wants & 255u) == WEFT_MEMBERS_GOES && p->epoch == m->epoch) continue; /* it has been let go */
        weft_members_add(view, r);
    }
    for (r = 0; r < m->size; r++) /* of two that have lost each other, in this view, the higher one goes */
        for (k = 0; k < m->size; k++) {
            weft_members_peer *p = &m->peer[r > k ? r : k];
            if (k == r || r == m->rank || !weft_members_has(view, r) || !weft_members_has(view, k) ||
                m->peer[r].epoch != m->epoch || !weft_members_has(m->peer[r].misses, k))
                continue;
            due = 1;
            p->accused = 1;
            if (!p->accused_ns) p->accused_ns = now ? now : 1;
            if (weft_members_over(now, p->accused_ns, m->options.grace_ns))
                view[(r > k ? r : k) / 8] &= (unsigned char)~(1u << ((r > k ? r : k) % 8));
            else
                patient = 1;
        }
    for (r = 0; r < m->size; r++) { /* who wants in, and hears all of them; not while some are going already */
        weft_members_peer *p = &m->peer[r];
        if (!p->accused) p->accused_ns = 0;
        if (ending || r == m->rank || weft_members_has(view, r) || !p->heard ||
            (p->wants & 255u) != WEFT_MEMBERS_JOINS ||
            ((p->member || p->lost) && p->life == p->life_in_view)) /* let in already, be it that it is silent since */
            continue;
        for (k = 0; k < m->size && (!weft_members_has(view, k) || weft_members_has(p->sees, k)); k++) continue;
        if (k < m->size) continue;
        due = 1;
        weft_members_add(view, r);
        weft_members_add(fresh, r);
    }
    if (!due || patient) return;
    for (r = 0; r < m->size; r++) {
        const weft_members_peer *p = &m->peer[r];
        const uint64_t v = r == m->rank ? m->options.life : !weft_members_has(view, r) ? 0 : p->life;
        weft_members_put(life + 8 * (size_t)r, 8, v);
    }
    if (weft_members_has(view, m->rank)) {
        weft_members_take(m, weft_members_next_epoch(m), view, fresh, life);
        return;
    }
    for (r = 0; r < m->size && !weft_members_has(view, r); r++) continue;
    if (r == m->size) return; /* nobody is left who needs one */
    weft_members_take(m, weft_members_next_epoch(m), view, fresh, life);
    m->out = 1;
}

/* ---- The verbs ---- */

/* All ranks are in the first view, which has the epoch 0; a worker with a `life` is in none yet (weft_members_in).
 * Sends nothing. */
WEFT_INLINE weft_status weft_members_init(weft_members *m, const weft_transport *net, const weft_members_options *o) {
    uint32_t r;
    if (net->size > WEFT_MEMBERS_MOST || net->size == 0 || net->rank >= net->size) return WEFT_ERR_CAPACITY;
    memset(m, 0, sizeof *m);
    m->net = net;
    m->options = *o;
    if (!m->options.beat_ns) m->options.beat_ns = 100000000u;
    if (!m->options.grace_ns) m->options.grace_ns = 200000000u;
    if (o->silence_ns && m->options.beat_ns > o->silence_ns / 4) m->options.beat_ns = o->silence_ns / 4;
    m->rank = net->rank;
    m->size = net->size;
    m->asks = o->life ? net->rank : WEFT_NO_RANK; /* a newcomer needs, and gives nothing */
    m->wants = o->life ? WEFT_MEMBERS_JOINS : WEFT_MEMBERS_STAYS;
    m->view.struct_size = sizeof m->view;
    m->view.members = m->list;
    for (r = 0; r < m->size; r++) {
        m->peer[r].linked = r != m->rank && !o->life;
        m->peer[r].stale = 1;
        m->peer[r].asks = WEFT_NO_RANK;
        m->peer[r].member = !o->life;
        m->peer[r].heard_ns = weft_members_now(m);
        if (!o->life) m->list[m->view.count++] = r;
    }
    m->polled_ns = weft_members_now(m);
    return WEFT_OK;
}

/* Moves letters. 1: there is a view that this has not told of yet. */
WEFT_INLINE int weft_members_poll(weft_members *m) {
    const uint64_t now = weft_members_now(m);
    const uint64_t silence = m->options.silence_ns;
    const int away = silence && now - m->polled_ns > silence / 2; /* then it is no wonder that nobody was heard of */
    uint32_t r;
    int news;
    m->polled_ns = now;
    for (r = 0; r < m->size; r++) {
        weft_members_peer *p = &m->peer[r];
        if (r == m->rank) continue;
        if (away) p->heard_ns = now;
        weft_members_hear(m, r);
        if (!p->linked) continue;
        if (silence && p->member && !p->lost && !weft_members_parted(p) && now > p->heard_ns &&
            now - p->heard_ns > silence) {
            p->lost = 1; /* the link stays: if it speaks again, that is heard */
            p->lost_ns = now;
            m->needs = 1;
            weft_members_tell(m);
        }
    }
    if (!m->out && m->wants != WEFT_MEMBERS_JOINS && weft_members_leader(m) == m->rank) weft_members_lead(m, now);
    for (r = 0; r < m->size && (!m->out || m->wants == WEFT_MEMBERS_GOES); r++) /* who was left out is silent */
        if (m->peer[r].linked) weft_members_send(m, r, now);
    news = m->news && !m->out;
    m->news = 0;
    return news;
}

/* What this worker is in; good until the next poll. */
WEFT_INLINE const weft_view *weft_members_view(const weft_members *m) {
    return &m->view;
}

WEFT_INLINE int weft_members_in(const weft_members *m) {
    return !m->out && m->wants != WEFT_MEMBERS_JOINS;
}

/* A newcomer that is not in: are all that it hears of done, or going? Then nobody will let it in. */
WEFT_INLINE int weft_members_over_already(const weft_members *m) {
    uint32_t r;
    int parted = 0;
    for (r = 0; r < m->size; r++) {
        const weft_members_peer *p = &m->peer[r];
        if (!p->life_known || (p->wants & 255u) == WEFT_MEMBERS_JOINS) continue;
        if (p->heard && !weft_members_parted(p)) return 0;
        parted |= weft_members_parted(p);
    }
    return parted && m->wants == WEFT_MEMBERS_JOINS;
}

/* Does its link work, and has it been heard of lately? (In a view or not: it may have gone, and still have something to
 * say.) A newcomer that is in no view yet does not count. */
WEFT_INLINE int weft_members_hears(const weft_members *m, uint32_t rank) {
    const weft_members_peer *p = &m->peer[rank];
    const uint64_t now = weft_members_now(m);
    return p->linked && (p->wants & 255u) != WEFT_MEMBERS_JOINS &&
           !(m->options.silence_ns && now > p->heard_ns && now - p->heard_ns > m->options.silence_ns);
}

/* Is this rank in the view, and not lost? */
WEFT_INLINE int weft_members_sees(const weft_members *m, uint32_t rank) {
    return rank < m->size && m->peer[rank].member && (rank == m->rank || !m->peer[rank].lost);
}

/* Came this rank with the present view? */
WEFT_INLINE int weft_members_is_fresh(const weft_members *m, uint32_t rank) {
    return m->peer[rank].fresh;
}

/* The others have gone on without this worker (which, if it wanted to go, is what it wanted). It is in no view any
 * more. */
WEFT_INLINE int weft_members_out(const weft_members *m) {
    return m->out;
}

/* A verb has said WEFT_ERR_PEER_LOST: even if all are there again, it needs a new view. */
WEFT_INLINE void weft_members_need(weft_members *m) {
    if (!m->needs) weft_members_tell(m);
    m->needs = 1;
}

/* This worker has taken its last step and wants to say good-bye (X_leave) when weft_members_may_go: then no later view
 * counts on it. If a new view comes first, it must be gone through. */
WEFT_INLINE void weft_members_go(weft_members *m) {
    if (m->wants == WEFT_MEMBERS_GOES || m->wants == WEFT_MEMBERS_JOINS) return;
    weft_members_tell(m);
    m->wants = WEFT_MEMBERS_GOES;
}

WEFT_INLINE int weft_members_may_go(const weft_members *m) {
    const uint32_t leader = weft_members_leader(m);
    if (m->out) return m->wants == WEFT_MEMBERS_GOES;
    if (m->wants != WEFT_MEMBERS_GOES || leader == WEFT_NO_RANK) return 0;
    return leader == m->rank || (m->peer[leader].heard && m->peer[leader].epoch == m->epoch &&
                                 weft_members_has(m->peer[leader].lets, m->rank));
}

/* This worker has taken its last step, and answers until all have. From then on its loss troubles nobody. */
WEFT_INLINE void weft_members_done(weft_members *m) {
    if (m->wants != WEFT_MEMBERS_DONE) weft_members_tell(m);
    m->wants = WEFT_MEMBERS_DONE;
}

WEFT_INLINE int weft_members_all_done(const weft_members *m) {
    uint32_t r;
    if (m->wants != WEFT_MEMBERS_DONE) return 0;
    for (r = 0; r < m->size; r++)
        if (r != m->rank && m->peer[r].member && !weft_members_parted(&m->peer[r])) return 0;
    return 1;
}

/* A newcomer asks one of the others for what it needs to begin (the model, the number of the step), which the host then
 * sends by messages of its own; WEFT_NO_RANK: it has it, and can give it to others. And: who asks this worker;
 * WEFT_NO_RANK: nobody does (any more). Each life is named once. */
WEFT_INLINE void weft_members_ask(weft_members *m, uint32_t rank) {
    if (m->asks != rank) weft_members_tell(m);
    m->asks = rank;
}

WEFT_INLINE uint32_t weft_members_asked(weft_members *m) {
    uint32_t r;
    for (r = 0; r < m->size; r++) {
        weft_members_peer *p = &m->peer[r];
        if (r == m->rank || !p->member || !p->heard || p->asks != m->rank || p->life != p->life_in_view ||
            p->fed == p->life)
            continue;
        p->fed = p->life;
        return r;
    }
    return WEFT_NO_RANK;
}

/* Whom a newcomer should ask: the lowest rank of the view that needs nothing itself. */
WEFT_INLINE uint32_t weft_members_host(const weft_members *m) {
    uint32_t r;
    for (r = 0; r < m->size; r++)
        if (r != m->rank && m->peer[r].heard && weft_members_sees(m, r) && !m->peer[r].fresh &&
            m->peer[r].asks == WEFT_NO_RANK)
            return r;
    return WEFT_NO_RANK;
}

/* Takes all messages back. */
WEFT_INLINE void weft_members_close(weft_members *m) {
    uint32_t r;
    for (r = 0; r < m->size; r++) weft_members_drop(m, r);
}

#endif /* WEFT_MEMBERS_H */
