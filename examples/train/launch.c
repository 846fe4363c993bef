/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "launch.h"

#include "ports.h"
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct child {
    pid_t pid;         /* 0: it is not running */
    uint64_t wake_ns;  /* it has stopped: when it goes on; 0: it runs */
    uint64_t start_ns; /* it is to come back: when; 0: it is not */
    bool came_back;
} child;

uint64_t launch_new_life(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* true: this is the worker. */
static bool launch_one(options *o, child *c, size_t rank, bool again) {
    fflush(stdout);
    pid_t p = fork();
    if (p < 0) broken("cannot start worker %zu: %s", rank, strerror(errno));
    if (p == 0) {
        o->rank = rank;
        o->life = again ? launch_new_life() : 0;
        if (again) o->kill[rank] = o->stop[rank] = 2.0; /* once */
        return true;
    }
    c->pid = p;
    c->start_ns = c->wake_ns = 0;
    c->came_back = again;
    return false;
}

/* Something has become of worker `rank`. Returns whether the whole is to fail for it. */
static bool launch_heed(const options *o, child *c, size_t rank, int status) {
    const uint64_t now = clock_ns();
    if (WIFSTOPPED(status)) { /* by itself; if somebody else has done it, it is theirs to wake */
        if (o->stop[rank] <= 1.0) c->wake_ns = now + (uint64_t)(o->stop_seconds[rank] * 1e9) + 1;
        return false;
    }
    if (WIFCONTINUED(status)) return false;
    c->pid = 0;
    c->wake_ns = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return false;
    if (o->restart[rank] >= 0.0 && !c->came_back) {
        c->start_ns = now + (uint64_t)(o->restart[rank] * 1e9) + 1;
        return false;
    }
    if (WIFSIGNALED(status) && o->kill[rank] <= 1.0 && WTERMSIG(status) == SIGKILL) return false; /* as was asked for */
    if (o->stop[rank] <= 1.0 && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_LEFT_OUT)
        return false; /* it was away for too long, and has said so */
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s: worker %zu was ended by signal %d\n", program_name, rank, WTERMSIG(status));
    else
        fprintf(stderr, "%s: worker %zu ended with status %d\n", program_name, rank, WEXITSTATUS(status));
    return true;
}

void launch(options *o) {
    child all[MAX_WORKERS] = {{0}};
    bool failed = false, busy = true;
    o->peers = ports_free(o->launch);
    o->workers = o->launch;
    for (size_t i = 0; i < o->launch; i++)
        if (launch_one(o, &all[i], i, false)) return;
    while (busy) {
        busy = false;
        size_t running = 0;
        for (size_t i = 0; i < o->launch; i++) running += all[i].pid != 0;
        for (size_t i = 0; i < o->launch; i++) {
            child *c = &all[i];
            int status;
            if (c->start_ns && clock_ns() >= c->start_ns) {
                if (!running)
                    c->start_ns = 0; /* there is nobody left to join */
                else if (launch_one(o, c, i, true))
                    return;
            }
            if (c->wake_ns && clock_ns() >= c->wake_ns) {
                kill(c->pid, SIGCONT);
                c->wake_ns = 0;
            }
            if (c->pid && waitpid(c->pid, &status, WNOHANG | WUNTRACED) == c->pid)
                failed |= launch_heed(o, c, i, status);
            busy = busy || c->pid || c->start_ns;
        }
        sleep_ns(2000000);
    }
    free(o->peers);
    exit(failed ? EXIT_FAILURE : EXIT_SUCCESS);
}
