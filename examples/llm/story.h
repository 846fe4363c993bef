/* SPDX-License-Identifier: MIT
 * story.h: text that the program makes itself: sentences by a grammar, with much in them that only shows from further
 * away than the last character: who gave what to whom is told again, verbs agree with nouns that stand a few words
 * before them, and sums are right. */
#ifndef LLM_STORY_H
#define LLM_STORY_H

#include <stddef.h>
#include <stdint.h>

/* `count` characters, a pure function of the seed: the beginning of a longer one is the shorter one. */
void story_make(unsigned char *out, size_t count, uint64_t seed);

#endif
