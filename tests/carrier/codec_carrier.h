/* SPDX-License-Identifier: MIT
 * codec_carrier.h: carries src/weft/codec.h, and what it stands on, to its tests. No header for users: the Makefile
 * makes build/carrier/codec_carrier.h of this as it makes those. */
#include "weft/base.h"
#include "weft/tensor.h"
#include "weft/kernels.h"
#include "weft/pool.h"
#include "weft/transport.h"
#include "weft/wire.h"
#include "weft/state.h"
#include "weft/codec.h"
/*==== API ====*/
/*==== IMPLEMENTATION ====*/
