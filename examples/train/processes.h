/* SPDX-License-Identifier: MIT
 * processes.h: starts workers as processes of this machine, for programs that need no more of them than that they
 * run. */
#ifndef TRAIN_PROCESSES_H
#define TRAIN_PROCESSES_H

#include <stddef.h>

/* Starts `workers` of them; each returns with its rank, and with the list of all in *peers. The process that was there
 * stays behind, waits for all, and exits; status 1 if any of them failed. To be called before there are threads. */
size_t processes_start(size_t workers, char **peers);

#endif
