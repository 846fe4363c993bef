/* SPDX-License-Identifier: MIT
 * child.h: processes of a peer, which take commands and answer (serve.h). One that does not answer in time is ended,
 * and with it the peer is out of the run. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILD_MOST = 64, CHILD_LINE = 512, CHILD_PATIENCE = 120 /* seconds */ };

typedef struct child {
    pid_t pid;
    int to, from;
} child;

typedef struct children {
    const char *name;
    child c[CHILD_MOST]; /* the first one answers */
    int count;
    char pending[4096]; /* what has come, up to the end of a line that has not */
    size_t pending_length;
} children;

/* One process more. Returns 0 if that fails. */
static inline int children_add(children *p, char *const *argv) {
    int to[2], from[2];
    child *c = &p->c[p->count];
    if (p->count == CHILD_MOST || pipe(to)) return 0;
    if (pipe(from)) {
        close(to[0]);
        close(to[1]);
        return 0;
    }
    fcntl(to[1], F_SETFD, FD_CLOEXEC);
    fcntl(from[0], F_SETFD, FD_CLOEXEC);
    c->pid = fork();
    if (c->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[0]);
        close(from[1]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    c->to = to[1];
    c->from = from[0];
    if (c->pid < 0) {
        close(c->to);
        close(c->from);
        return 0;
    }
    p->count++;
    return 1;
}

static inline void children_stop(children *p) {
    int i, tries;
    for (i = 0; i < p->count; i++) {
        if (write(p->c[i].to, "quit\n", 5) < 0) continue; /* it is gone already */
    }
    for (i = 0; i < p->count; i++) {
        close(p->c[i].to);
        for (tries = 0; tries < 500 && waitpid(p->c[i].pid, NULL, WNOHANG) == 0; tries++) clock_sleep(0.01);
        if (tries == 500) {
            kill(p->c[i].pid, SIGKILL);
            waitpid(p->c[i].pid, NULL, 0);
        }
        close(p->c[i].from);
    }
    p->count = 0;
}

/* The next line of the first one that begins with "= ", without that. 0: it is gone, or silent. */
static inline int children_answer(children *p, char *line) {
    const double until = clock_now() + CHILD_PATIENCE;
    for (;;) {
        char *end = (char *)memchr(p->pending, '\n', p->pending_length);
        struct pollfd f;
        ssize_t n;
        if (end) {
            const size_t length = (size_t)(end - p->pending);
            const int is_answer = length >= 2 && p->pending[0] == '=';
            if (is_answer) snprintf(line, CHILD_LINE, "%.*s", (int)length - 2, p->pending + 2);
            p->pending_length -= length + 1;
            memmove(p->pending, end + 1, p->pending_length);
            if (is_answer) return 1;
            continue;
        }
        if (p->pending_length == sizeof p->pending) p->pending_length = 0; /* not one of ours */
        f.fd = p->c[0].from;
        f.events = POLLIN;
        if (clock_now() > until || poll(&f, 1, 1000) < 0) return 0;
        if (!f.revents) continue;
        n = read(f.fd, p->pending + p->pending_length, sizeof p->pending - p->pending_length);
        if (n <= 0) return 0;
        p->pending_length += (size_t)n;
    }
}

/* A command to all, and the answer. 0: the peer is out. */
static inline int children_ask(children *p, const char *command, char *answer) {
    int i;
    for (i = 0; i < p->count; i++) {
        if (write(p->c[i].to, command, strlen(command)) < 0) break;
    }
    if (i == p->count && children_answer(p, answer)) return 1;
    fprintf(stderr, "%s has failed at: %s", p->name, command);
    for (i = 0; i < p->count; i++) kill(p->c[i].pid, SIGTERM);
    children_stop(p);
    return 0;
}

#endif
