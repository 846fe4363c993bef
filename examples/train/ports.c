/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "ports.h"

#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* They lie below those that the system gives to whoever connects, so that none is gone before its worker is there, or
 * there again. */
char *ports_free(size_t workers) {
    char *list = new_array(workers, 32), *at = list;
    int *socket_of = new_array(workers, sizeof *socket_of);
    unsigned next = (unsigned)getpid() * 64;
    for (size_t i = 0; i < workers; i++) {
        const unsigned most = next + 20000;
        struct sockaddr_in a;
        unsigned port;
        memset(&a, 0, sizeof a);
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socket_of[i] = socket(AF_INET, SOCK_STREAM, 0);
        do {
            port = 10000 + next++ % 20000;
            a.sin_port = htons((uint16_t)port);
            if (socket_of[i] < 0 || next == most) broken("no port for worker %zu: %s", i, strerror(errno));
        } while (bind(socket_of[i], (struct sockaddr *)(void *)&a, sizeof a) != 0);
        at += sprintf(at, "127.0.0.1:%u\n", port);
    }
    for (size_t i = 0; i < workers; i++) close(socket_of[i]);
    free(socket_of);
    return list;
}
