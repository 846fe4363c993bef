/* SPDX-License-Identifier: MIT
 * ports.h: where processes of this machine can listen. */
#ifndef TRAIN_PORTS_H
#define TRAIN_PORTS_H

#include <stddef.h>

/* Ports of this machine that nobody uses, as a list of peers, a line each; give it back with free(). */
char *ports_free(size_t workers);

#endif
