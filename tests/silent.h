/* SPDX-License-Identifier: MIT
 * silent.h: a transport whose peers never say a word: sends are taken, receives stay pending. For tests of what needs
 * no answer. Include after a header with its IMPLEMENTATION. */
#ifndef SILENT_H
#define SILENT_H

static weft_status silent_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                               weft_request *q) {
    (void)ctx, (void)peer, (void)tag, (void)data, (void)bytes, (void)q;
    return WEFT_OK;
}

static weft_status silent_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity, weft_request *q) {
    (void)ctx, (void)peer, (void)tag, (void)data, (void)capacity, (void)q;
    return WEFT_OK;
}

static weft_status silent_test(void *ctx, weft_request *q) {
    (void)ctx, (void)q;
    return WEFT_AGAIN;
}

static void silent_cancel(void *ctx, weft_request *q) {
    (void)ctx, (void)q;
}

/* `now` may be NULL, as in the library. */
static inline weft_transport silent_transport(void *ctx, uint32_t size, weft_now_fn now) {
    return weft_transport_make(ctx, 0, size, silent_send, silent_recv, silent_test, silent_cancel, now);
}

#endif
