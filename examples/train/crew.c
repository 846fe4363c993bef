/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "crew.h"

#include "util.h"

#ifdef WEFT_HAVE_MPI
#include "weft_mpi.h"
#endif
#include "weft_tcp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct crew {
    weft_transport net;
    bool over_mpi;
    weft_tcp tcp;
#ifdef WEFT_HAVE_MPI
    weft_mpi mpi;
#endif
};

/* Of the last channel, which no rule uses. */
enum { CREW_TAG = (WEFT_CHANNELS - 1) * WEFT_TAGS_PER_CHANNEL, CREW_PIECE = 1 << 20, CREW_MEETING = CREW_TAG + 1 };

/* ---- Starting ---- */

/* Ports of this machine that nobody uses, as a list of peers. */
static char *crew_ports(size_t workers) {
    char *list = new_array(workers, 32), *at = list;
    int socket_of[MAX_WORKERS];
    for (size_t i = 0; i < workers; i++) {
        struct sockaddr_in a;
        socklen_t bytes = sizeof a;
        memset(&a, 0, sizeof a);
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socket_of[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (socket_of[i] < 0 || bind(socket_of[i], (struct sockaddr *)(void *)&a, sizeof a) ||
            getsockname(socket_of[i], (struct sockaddr *)(void *)&a, &bytes))
            broken("no port for worker %zu: %s", i, strerror(errno));
        at += sprintf(at, "127.0.0.1:%u\n", (unsigned)ntohs(a.sin_port));
    }
    for (size_t i = 0; i < workers; i++) close(socket_of[i]);
    return list;
}

static pid_t crew_child[MAX_WORKERS];
static size_t crew_children;

/* Certificates of the workers that this program starts, before it starts them. */
static void crew_check_tls(const options *o, size_t first, size_t end) {
#ifdef WEFT_TCP_TLS
    for (size_t i = first; i < end; i++) {
        weft_tcp t;
        weft_tcp_blank(&t);
        t.rank = (uint32_t)i;
        t.options.tls_folder = o->tls;
        if (weft_tls_load(&t) != WEFT_OK)
            bad_input("--tls: %s (examples/transports/certificates %s %zu makes what is missing)", t.why, o->tls,
                      o->workers);
        weft_tls_unload(&t);
    }
#else
    (void)first;
    (void)end;
    if (o->tls) bad_input("--tls %s: this program was built without OpenSSL (pkg-config did not know it)", o->tls);
#endif
}

static void crew_launch(options *o) {
    o->workers = o->launch;
    if (o->tls) crew_check_tls(o, 0, o->workers);
    o->peers = crew_ports(o->launch);
    for (size_t i = 1; i < o->launch; i++) {
        pid_t p = fork();
        if (p < 0) broken("cannot start worker %zu: %s", i, strerror(errno));
        if (p == 0) {
            crew_children = 0;
            o->rank = i;
            return;
        }
        crew_child[crew_children++] = p;
    }
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
    if (o->tls) crew_check_tls(o, o->rank, o->rank + 1);
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
    } else if (o->launch)
        crew_launch(o);
    else
        crew_join(o);
    if (o->rank == 0) return;
    /* one table is enough */
    o->csv = o->svg = NULL;
    if (!freopen("/dev/null", "w", stdout)) broken("cannot be silent: %s", strerror(errno));
}

/* ---- A run's network ---- */

crew *crew_open(const options *o, unsigned run) {
    crew *c;
    if (o->transport == TRANSPORT_THREADS) return NULL;
    c = new_array(1, sizeof *c);
    c->over_mpi = o->transport == TRANSPORT_MPI;
#ifdef WEFT_HAVE_MPI
    if (c->over_mpi && weft_mpi_transport(&c->mpi, &c->net, MPI_COMM_WORLD) != WEFT_OK) broken("MPI: no communicator");
#endif
    if (!c->over_mpi) {
        weft_tcp_options t;
        memset(&t, 0, sizeof t);
        t.rank = (uint32_t)o->rank;
        t.peers = o->peers;
        t.job = run;
        t.plaintext_on_any_network = o->plaintext;
        t.tls_folder = o->tls;
        if (weft_tcp_open(&c->tcp, &c->net, &t) != WEFT_OK || weft_tcp_join(&c->tcp) != WEFT_OK)
            broken("%s", c->tcp.why);
    }
    crew_meet(c);
    return c;
}

const weft_transport *crew_transport(const crew *c) {
    return &c->net;
}

static void crew_finish(crew *c, weft_status s, weft_request *q) {
    while (s == WEFT_OK && (s = c->net.test(c->net.ctx, q)) == WEFT_AGAIN) {
        if (c->net.wait) c->net.wait(c->net.ctx, UINT64_MAX);
        s = WEFT_OK;
    }
    if (s != WEFT_OK) broken("between processes: %s", weft_strerror(s));
}

static void crew_transfer(crew *c, bool is_send, size_t peer, uint32_t tag, void *data, size_t bytes) {
    size_t at = 0;
    do {
        const size_t n = bytes - at < CREW_PIECE ? bytes - at : CREW_PIECE;
        weft_request q;
        memset(&q, 0, sizeof q);
        unsigned char *p = data ? (unsigned char *)data + at : NULL;
        crew_finish(c,
                    is_send ? c->net.send(c->net.ctx, (uint32_t)peer, tag, p, n, &q)
                            : c->net.recv(c->net.ctx, (uint32_t)peer, tag, p, n, &q),
                    &q);
        if (!is_send && q.bytes != n) broken("between processes: expected %zu bytes, got %zu", n, (size_t)q.bytes);
        at += n;
    } while (at < bytes);
}

void crew_send(crew *c, size_t to, const void *data, size_t bytes) {
    crew_transfer(c, true, to, CREW_TAG, (void *)(uintptr_t)data, bytes);
}

void crew_receive(crew *c, size_t from, void *data, size_t bytes) {
    crew_transfer(c, false, from, CREW_TAG, data, bytes);
}

void crew_meet(crew *c) {
    const uint32_t me = c->net.rank, n = c->net.size;
    for (uint32_t i = 1; me == 0 && i < n; i++) crew_transfer(c, false, i, CREW_MEETING, NULL, 0);
    if (me) crew_transfer(c, true, 0, CREW_MEETING, NULL, 0);
    for (uint32_t i = 1; me == 0 && i < n; i++) crew_transfer(c, true, i, CREW_MEETING, NULL, 0);
    if (me) crew_transfer(c, false, 0, CREW_MEETING, NULL, 0);
}

void crew_close(crew *c) {
    if (!c) return;
    crew_meet(c);
#ifdef WEFT_HAVE_MPI
    if (c->over_mpi) weft_mpi_close(&c->mpi);
#endif
    if (!c->over_mpi) weft_tcp_close(&c->tcp);
    free(c);
}

int crew_end(const options *o, int status) {
    for (size_t i = 0; i < crew_children; i++) {
        int s;
        if (waitpid(crew_child[i], &s, 0) == crew_child[i] && s != 0) status = EXIT_FAILURE;
    }
#ifdef WEFT_HAVE_MPI
    if (o->transport == TRANSPORT_MPI) MPI_Finalize();
#endif
    if (o->transport != TRANSPORT_THREADS) free(o->peers);
    return status;
}
