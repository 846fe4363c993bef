/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "crew.h"

#include "launch.h"
#include "util.h"

#ifdef WEFT_HAVE_MPI
#include "weft_mpi.h"
#endif
#include "weft_members.h"
#include "weft_tcp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct crew {
    weft_transport net;
    bool over_mpi;
    weft_tcp tcp;
    weft_members members;
    bool newcomer;
    uint64_t looked_ns;
    uint32_t epoch;            /* of the view that has been counted */
    bool in[MAX_WORKERS];      /* it */
    bool renewed[MAX_WORKERS]; /* the link is another one than that view's */
    crew_events events;
    void (*listen)(void *ctx, uint32_t rank, bool up);
    void *listen_ctx;
    void (*serve)(void *ctx); /* whoever asks */
    void *serve_ctx;
    bool serving;
    weft_view all; /* over MPI: who is in */
    uint32_t rank_of_all[MAX_WORKERS];
#ifdef WEFT_HAVE_MPI
    weft_mpi mpi;
#endif
};

/* Of the last channel, which no rule uses. */
enum {
    CREW_TAG = (WEFT_CHANNELS - 1) * WEFT_TAGS_PER_CHANNEL, /* and the topic */
    CREW_MEETING = CREW_TAG + CREW_STATE + 1,
    CREW_MEMBERS,
    CREW_PIECE = 1 << 20
};

/* For those who wait: how long until the next look. */
static const uint64_t CREW_MOMENT_NS = UINT64_C(1000000);

/* A job that is not there after so long, will not come. */
static const uint64_t CREW_PATIENCE_NS = UINT64_C(120000000000);

/* ---- Starting ---- */

/* Certificates of the workers from `first` to before `end`, before anything is begun. */
static void crew_check_tls(const options *o, size_t first, size_t end) {
#ifdef WEFT_TCP_TLS
    for (size_t i = first; o->tls && i < end; i++) {
        weft_tcp t;
        weft_tcp_blank(&t);
        t.rank = (uint32_t)i;
        t.options.tls_folder = o->tls;
        if (weft_tls_load(&t) != WEFT_OK)
            bad_input("--tls: %s (examples/transports/certificates %s %zu makes what is missing)", t.why, o->tls,
                      o->launch ? o->launch : o->workers);
        weft_tls_unload(&t);
    }
#else
    (void)first;
    (void)end;
    if (o->tls) bad_input("--tls %s: this program was built without OpenSSL (pkg-config did not know it)", o->tls);
#endif
}

/* The file of --peers, or the environment's list. */
static char *crew_peers(const char *path) {
    char *text = new_array(1, 1 << 20);
    const char *list = getenv("WEFT_PEERS");
    if (!path && !list)
        bad_input("--transport tcp: expected --launch N, or --peers FILE and WEFT_RANK in the environment");
    if (path) {
        FILE *in = fopen(path, "rb");
        if (!in) bad_input("%s: %s", path, strerror(errno));
        size_t n = fread(text, 1, (1 << 20) - 1, in);
        text[n] = 0;
        fclose(in);
    } else
        snprintf(text, 1 << 20, "%s", list);
    return text;
}

static void crew_join(options *o) {
    const char *rank = getenv("WEFT_RANK");
    weft_tcp list;
    char *end;
    o->peers = crew_peers(o->peers_file);
    if (!rank || *rank < '0' || *rank > '9') bad_input("WEFT_RANK: expected this worker's rank in the environment");
    o->rank = strtoul(rank, &end, 10);
    weft_tcp_blank(&list);
    list.options.rank = (uint32_t)o->rank;
    if (*end || weft_tcp_read_list(&list, o->peers) != WEFT_OK)
        bad_input("%s", *end ? "WEFT_RANK is no number" : list.why);
    if (list.size > MAX_WORKERS) bad_input("--peers: expected at most %d workers, got %u", MAX_WORKERS, list.size);
    o->workers = list.size;
    weft_tcp_close(&list);
    crew_check_tls(o, o->rank, o->rank + 1);
    const char *again = getenv("WEFT_TCP_AGAIN");
    if (again && strcmp(again, "0") != 0) o->life = launch_new_life();
}

/* Of rank 0's table there is enough, as long as it lives. */
static int crew_stdout = -1;

static void crew_be_silent(void) {
    fflush(stdout);
    crew_stdout = dup(STDOUT_FILENO);
    if (crew_stdout < 0 || !freopen("/dev/null", "w", stdout)) broken("cannot be silent: %s", strerror(errno));
}

void crew_speak(const options *o) {
    if (o->rank == 0 || crew_stdout < 0) return;
    fflush(stdout);
    if (dup2(crew_stdout, STDOUT_FILENO) < 0) broken("cannot speak: %s", strerror(errno));
    close(crew_stdout);
    crew_stdout = -1;
}

void crew_begin(options *o, int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    if (o->transport == TRANSPORT_THREADS) return;
    if (o->transport == TRANSPORT_MPI) {
#ifdef WEFT_HAVE_MPI
        int rank, size, level;
        MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &level);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        MPI_Comm_size(MPI_COMM_WORLD, &size);
        if (size > MAX_WORKERS) bad_input("mpirun: expected at most %d workers, got %d", MAX_WORKERS, size);
        o->rank = (size_t)rank;
        o->workers = (size_t)size;
#else
        bad_input("--transport mpi: this program was built without MPI (mpicc was not found)");
#endif
    } else if (o->launch) {
        crew_check_tls(o, 0, o->launch);
        launch(o);
    } else
        crew_join(o);
    if (o->rank != 0) crew_be_silent();
}

/* ---- What is done to workers ---- */

static uint64_t crew_sends_left = UINT64_MAX;

static weft_status crew_last_sends(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                   weft_request *q) {
    if (tag / WEFT_TAGS_PER_CHANNEL != WEFT_CHANNELS - 1 && crew_sends_left-- == 0) raise(SIGKILL);
    return weft_tcp_send(ctx, peer, tag, data, bytes, q);
}

void crew_doom(uint64_t sends) {
    if (crew_sends_left > sends) crew_sends_left = sends;
}

/* ---- A run's network ---- */

static void crew_open_tcp(crew *c, const options *o, unsigned run) {
    weft_tcp_options t;
    memset(&t, 0, sizeof t);
    t.rank = (uint32_t)o->rank;
    t.peers = o->peers;
    t.job = run;
    t.plaintext_on_any_network = o->plaintext;
    t.tls_folder = o->tls;
    t.again = c->newcomer;
    t.connect_ns = CREW_PATIENCE_NS;
    if (weft_tcp_open(&c->tcp, &c->net, &t) != WEFT_OK || (!c->newcomer && weft_tcp_join(&c->tcp) != WEFT_OK))
        broken("%s", c->tcp.why);
}

static void crew_too_late(crew *c) {
    fprintf(stderr, "%s: worker %u: nobody is there (any more) that it could join\n", program_name,
            (unsigned)c->net.rank);
    exit(EXIT_SUCCESS);
}

static void crew_open_members(crew *c, const options *o) {
    uint64_t begun = clock_ns(); /* of hearing nobody */
    weft_members_options m;
    memset(&m, 0, sizeof m);
    m.tag = CREW_MEMBERS;
    m.life = o->life;
    m.silence_ns = (uint64_t)(o->deadline * 1e9);
    if (weft_members_init(&c->members, &c->net, &m) != WEFT_OK) broken("more workers than weft_members.h has room for");
    while (!weft_members_in(&c->members)) {
        crew_look(c);
        crew_wait(c);
        bool heard = false;
        for (uint32_t i = 0; i < c->net.size; i++) /* newcomers are no help to each other */
            heard = heard || (c->members.peer[i].heard && c->members.peer[i].wants != WEFT_MEMBERS_JOINS);
        if (heard) begun = clock_ns();
        if (weft_members_over_already(&c->members) || clock_ns() - begun > m.silence_ns) crew_too_late(c);
    }
    c->epoch = weft_members_view(&c->members)->epoch;
    for (uint32_t i = 0; i < c->net.size; i++) c->in[i] = weft_members_sees(&c->members, i);
    memset(&c->events, 0, sizeof c->events);
}

crew *crew_open(const options *o, unsigned run) {
    crew *c;
    if (o->transport == TRANSPORT_THREADS) return NULL;
    c = new_array(1, sizeof *c);
    c->over_mpi = o->transport == TRANSPORT_MPI;
    c->newcomer = o->life != 0;
#ifdef WEFT_HAVE_MPI
    if (c->over_mpi && weft_mpi_transport(&c->mpi, &c->net, MPI_COMM_WORLD) != WEFT_OK) broken("MPI: no communicator");
#endif
    if (!c->over_mpi) {
        crew_open_tcp(c, o, run);
        if (o->kill[o->rank] <= 1.0) c->net.send = crew_last_sends;
        crew_open_members(c, o);
    }
    c->all.struct_size = sizeof c->all;
    c->all.count = c->net.size;
    c->all.members = c->rank_of_all;
    for (uint32_t i = 0; i < c->net.size; i++) c->rank_of_all[i] = i;
    if (!c->newcomer) crew_meet(c);
    return c;
}

const weft_transport *crew_transport(const crew *c) {
    return &c->net;
}

static bool crew_finish(crew *c, weft_status s, weft_request *q, size_t peer) {
    while (s == WEFT_OK && (s = c->net.test(c->net.ctx, q)) == WEFT_AGAIN) {
        crew_look(c);
        if (c->serve && !c->serving) {
            c->serving = true;
            c->serve(c->serve_ctx);
            c->serving = false;
        }
        if (!crew_hears(c, peer)) {
            c->net.cancel(c->net.ctx, q);
            return false;
        }
        crew_wait(c);
        s = WEFT_OK;
    }
    if (s == WEFT_ERR_PEER_LOST && crew_has_members(c)) {
        c->looked_ns = 0; /* so that whoever tries again hears of it first */
        crew_look(c);
        crew_wait(c);
        return false;
    }
    if (s != WEFT_OK) broken("between processes: %s", weft_strerror(s));
    return true;
}

static bool crew_transfer(crew *c, bool is_send, size_t peer, uint32_t tag, void *data, size_t bytes) {
    size_t at = 0;
    do {
        const size_t n = bytes - at < CREW_PIECE ? bytes - at : CREW_PIECE;
        weft_request q;
        memset(&q, 0, sizeof q);
        unsigned char *p = data ? (unsigned char *)data + at : NULL;
        if (!crew_finish(c,
                         is_send ? c->net.send(c->net.ctx, (uint32_t)peer, tag, p, n, &q)
                                 : c->net.recv(c->net.ctx, (uint32_t)peer, tag, p, n, &q),
                         &q, peer))
            return false;
        if (!is_send && q.bytes != n) broken("between processes: expected %zu bytes, got %zu", n, (size_t)q.bytes);
        at += n;
    } while (at < bytes);
    return true;
}

bool crew_send(crew *c, crew_topic topic, size_t to, const void *data, size_t bytes) {
    return crew_transfer(c, true, to, CREW_TAG + (uint32_t)topic, (void *)(uintptr_t)data, bytes);
}

bool crew_receive(crew *c, crew_topic topic, size_t from, void *data, size_t bytes) {
    return crew_transfer(c, false, from, CREW_TAG + (uint32_t)topic, data, bytes);
}

void crew_meet(crew *c) {
    const uint32_t me = c->net.rank, n = c->net.size;
    for (uint32_t i = 1; me == 0 && i < n; i++) crew_transfer(c, false, i, CREW_MEETING, NULL, 0);
    if (me) crew_transfer(c, true, 0, CREW_MEETING, NULL, 0);
    for (uint32_t i = 1; me == 0 && i < n; i++) crew_transfer(c, true, i, CREW_MEETING, NULL, 0);
    if (me) crew_transfer(c, false, 0, CREW_MEETING, NULL, 0);
}

/* ---- Who is in ---- */

bool crew_has_members(const crew *c) {
    return !c->over_mpi;
}

static void crew_hear_of(crew *c, uint32_t rank, bool up) {
    (up ? weft_members_up : weft_members_lost)(&c->members, rank);
    c->renewed[rank] = up;
    if (c->listen) c->listen(c->listen_ctx, rank, up);
}

static void crew_take_view(crew *c) {
    const weft_view *v = weft_members_view(&c->members);
    bool in[MAX_WORKERS] = {false};
    if (v->epoch == c->epoch) return;
    for (uint32_t i = 0; i < v->count; i++) in[v->members[i]] = true;
    for (uint32_t i = 0; i < c->net.size; i++) {
        const bool fresh = in[i] && weft_members_is_fresh(&c->members, i);
        c->events.lost += c->in[i] && (!in[i] || fresh);
        c->events.came += fresh;
        /* who is left out, though its link may be there, is gone; but not a link that is a later life's already */
        if (c->in[i] && !in[i] && !c->renewed[i] && c->listen) c->listen(c->listen_ctx, i, false);
        if (in[i]) c->renewed[i] = false;
        c->in[i] = in[i];
    }
    c->events.views++;
    c->epoch = v->epoch;
}

void crew_look(crew *c) {
    const uint64_t now = clock_ns();
    uint32_t rank;
    int up;
    if (c->over_mpi || now - c->looked_ns < CREW_MOMENT_NS) return;
    c->looked_ns = now;
    while (weft_tcp_news(&c->tcp, &rank, &up)) crew_hear_of(c, rank, up != 0);
    (void)weft_members_poll(&c->members);
    if (weft_members_in(&c->members)) crew_take_view(c);
    if (weft_members_out(&c->members) && c->members.wants != WEFT_MEMBERS_GOES) {
        fprintf(stderr, "%s: worker %u: the others have gone on without it (silent for too long, or cut off)\n",
                program_name, (unsigned)c->net.rank);
        exit(EXIT_LEFT_OUT);
    }
}

void crew_listen(crew *c, void (*listen)(void *ctx, uint32_t rank, bool up), void *ctx) {
    c->listen = listen;
    c->listen_ctx = ctx;
}

const weft_view *crew_view(const crew *c) {
    return c->over_mpi ? &c->all : weft_members_view(&c->members);
}

void crew_need(crew *c) {
    weft_members_need(&c->members);
}

void crew_wait(crew *c) {
    if (c->net.wait) c->net.wait(c->net.ctx, c->net.now(c->net.ctx) + CREW_MOMENT_NS);
}

bool crew_may_go(crew *c) {
    weft_members_go(&c->members);
    crew_look(c);
    return weft_members_may_go(&c->members) || weft_members_out(&c->members);
}

bool crew_all_done(crew *c) {
    weft_members_done(&c->members);
    crew_look(c);
    return weft_members_all_done(&c->members);
}

bool crew_is_newcomer(const crew *c) {
    return c->newcomer;
}

size_t crew_ask(crew *c) {
    uint32_t whom;
    while ((whom = weft_members_host(&c->members)) == WEFT_NO_RANK) {
        bool alone = true;
        for (uint32_t i = 0; i < c->net.size; i++)
            alone = alone && (i == c->net.rank || !weft_members_sees(&c->members, i));
        if (alone) crew_too_late(c);
        crew_look(c);
        crew_wait(c);
    }
    weft_members_ask(&c->members, whom);
    return whom;
}

void crew_answered(crew *c) {
    weft_members_ask(&c->members, WEFT_NO_RANK);
}

bool crew_asked(crew *c, size_t *who) {
    const uint32_t rank = c->over_mpi ? WEFT_NO_RANK : weft_members_asked(&c->members);
    *who = rank;
    return rank != WEFT_NO_RANK;
}

void crew_serve_with(crew *c, void (*serve)(void *ctx), void *ctx) {
    c->serve = serve;
    c->serve_ctx = ctx;
}

bool crew_hears(const crew *c, size_t rank) {
    return c->over_mpi || weft_members_hears(&c->members, (uint32_t)rank);
}

bool crew_is_gone(const crew *c) {
    return !c->over_mpi && weft_members_out(&c->members);
}

void crew_done(crew *c) {
    if (c->over_mpi) return;
    weft_members_done(&c->members);
    c->looked_ns = 0; /* they are told now: this process may end soon */
    crew_look(c);
}

size_t crew_reporter(crew *c) {
    size_t rank = 0;
    while (rank < c->net.rank && !crew_hears(c, rank)) rank++;
    return rank;
}

crew_events crew_count(const crew *c) {
    return c->events;
}

void crew_close(crew *c) {
    if (!c) return;
    if (c->over_mpi)
        crew_meet(c);
    else
        weft_members_close(&c->members);
#ifdef WEFT_HAVE_MPI
    if (c->over_mpi) weft_mpi_close(&c->mpi);
#endif
    if (!c->over_mpi) weft_tcp_close(&c->tcp);
    free(c);
}

int crew_end(const options *o, int status) {
#ifdef WEFT_HAVE_MPI
    if (o->transport == TRANSPORT_MPI) MPI_Finalize();
#endif
    if (o->transport != TRANSPORT_THREADS) free(o->peers);
    return status;
}
