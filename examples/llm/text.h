/* SPDX-License-Identifier: MIT
 * text.h: what is learnt from: a text as numbers of its characters (bytes), nine tenths to train on and the rest to
 * validate with. What cannot be used ends the program with a line and status 2. */
#ifndef LLM_TEXT_H
#define LLM_TEXT_H

#include <stddef.h>
#include <stdint.h>

typedef struct text {
    const char *name;
    size_t symbols; /* different characters */
    unsigned char symbol[256];
    uint8_t *train, *validation; /* numbers of symbols */
    size_t train_count, validation_count;
} text;

/* Room is looked for on both sides: a context and the character after it. */
void text_load(text *t, const char *file, size_t context);
void text_make(text *t, const char *name, const unsigned char *bytes, size_t count, size_t context);
void text_free(text *t);

/* Samples first .. first + count - 1 of step `step`: windows of `length` characters from anywhere in the training part,
 * and the characters after each. The same whoever asks: which worker takes which of them is not known here. */
void text_batch(const text *t, uint64_t seed, uint64_t step, size_t first, size_t count, size_t length, uint8_t *x,
                uint8_t *y);

/* How many windows there are to validate with, one beside the other, at most `most`; and count of them from `first`
 * on. */
size_t text_windows(const text *t, size_t length, size_t most);
void text_window(const text *t, size_t windows, size_t first, size_t count, size_t length, uint8_t *x, uint8_t *y);

/* What counting pairs of characters comes to: the validation part's mean loss under the training part's frequencies of
 * a character after each other one (one is added to each count). */
double text_pairs(const text *t);

/* Of all of it. */
uint64_t text_hash(const text *t);

#endif
