/* SPDX-License-Identifier: MIT
 * text.h: words and numbers on the board's line for text, without printf. */
#ifndef EDGE_TEXT_H
#define EDGE_TEXT_H

#include "board.h"

static inline void say(const char *s) {
    while (*s) board_text(*s++);
}

static inline void say_number(uint64_t n) {
    char digit[20];
    int i = 0;
    do {
        digit[i++] = (char)('0' + (int)(n % 10));
        n /= 10;
    } while (n);
    while (i) board_text(digit[--i]);
}

/* " name=n": what the script reads */
static inline void say_field(const char *name, uint64_t n) {
    say(" ");
    say(name);
    say("=");
    say_number(n);
}

#endif
