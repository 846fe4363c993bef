/* SPDX-License-Identifier: MIT
 * launch.h: starts workers as processes of this machine and watches over them. */
#ifndef TRAIN_LAUNCH_H
#define TRAIN_LAUNCH_H

#include "options.h"

/* Starts o->launch workers; each of them returns, with o->rank and o->peers set. The process that was there stays
 * behind, waits for all, wakes those that stopped themselves (--stop), starts those anew that died and are to come back
 * (--restart), says who ended badly, and exits. */
void launch(options *o);

/* A number that no life of a worker had before (o->life of one that is started again). */
uint64_t launch_new_life(void);

#endif
