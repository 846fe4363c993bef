/* SPDX-License-Identifier: MIT
 * blob.h: what an attacker would do to a saved blob: any fields, and then a head and a checksum that fit them. Include it
 * after a weft header. */
#ifndef TESTS_BLOB_H
#define TESTS_BLOB_H

static inline void blob_seal(unsigned char *p, size_t bytes, uint64_t fingerprint) {
    weft_put32(p, WEFT_BLOB_MAGIC);
    weft_put32(p + 4, WEFT_BLOB_VERSION);
    weft_put64(p + 8, fingerprint);
    weft_put64(p + 16, bytes);
    weft_put32(p + bytes - WEFT_BLOB_TAIL, weft_crc32c(0, p, bytes - WEFT_BLOB_TAIL));
}

#endif
