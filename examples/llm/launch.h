/* SPDX-License-Identifier: MIT
 * launch.h: starts workers as processes of this machine. */
#ifndef LLM_LAUNCH_H
#define LLM_LAUNCH_H

#include "options.h"

/* Starts o->workers of them; each returns, with o->rank and o->peers set. The process that was there stays behind, waits
 * for all, and exits; status 1 if any of them failed. */
void launch(options *o);

#endif
