/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "processes.h"

#include "ports.h"
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

size_t processes_start(size_t workers, char **peers) {
    pid_t *child = new_array(workers, sizeof *child);
    bool failed = false;
    *peers = ports_free(workers);
    fflush(stdout);
    for (size_t i = 0; i < workers; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            free(child);
            return i;
        }
        if (child[i] > 0) continue;
        const int why = errno;
        while (i-- > 0) kill(child[i], SIGTERM);
        broken("cannot start a worker: %s", strerror(why));
    }
    for (size_t i = 0; i < workers; i++) {
        int status;
        while (waitpid(child[i], &status, 0) < 0 && errno == EINTR) {
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
        failed = true;
        if (WIFSIGNALED(status))
            fprintf(stderr, "%s: worker %zu was ended by signal %d\n", program_name, i, WTERMSIG(status));
    }
    exit(failed ? EXIT_FAILURE : EXIT_SUCCESS);
}
