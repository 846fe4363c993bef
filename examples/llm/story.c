/* SPDX-License-Identifier: MIT */
#include "story.h"

#include "train/rng.h"

#include <stdio.h>
#include <string.h>

enum { RNG_STORY = 102 };

#define COUNT(array_) (sizeof(array_) / sizeof *(array_))
#define PICK(array_) ((array_)[rng_below(r, COUNT(array_))])

static const char *const NAME[] = {"anna",  "boris", "clara", "david", "elena", "felix", "greta", "hugo",
                                   "irene", "jonas", "karla", "leo",   "marta", "nora",  "otis",  "paula"};
static const char *const COLOUR[] = {"red", "green", "blue", "yellow", "black", "white"};
static const char *const THING[] = {"lamp", "basket", "ladder", "kettle", "violin", "carpet", "pencil", "hammer"};
static const char *const ANIMAL[] = {"cat", "dog", "goat", "bird", "horse", "rabbit"};
static const char *const PLACE[] = {"house", "river", "tree", "tower", "barn", "bridge"};
static const char *const VERB[] = {"sleep", "sing", "run", "eat", "hide", "wait"};
static const char *const NUMBER[] = {"no",  "one",   "two",   "three", "four", "five",
                                     "six", "seven", "eight", "nine",  "ten"};

/* Somebody gives somebody something, and both are told again. */
static int gift(rng *r, char *out, size_t room) {
    const char *from = PICK(NAME), *to = PICK(NAME), *colour = PICK(COLOUR), *thing = PICK(THING);
    while (to == from) to = PICK(NAME);
    return snprintf(out, room, "%s gave the %s %s to %s. now %s has the %s %s and thanks %s.\n", from, colour, thing,
                    to, to, colour, thing, from);
}

/* The verb agrees with the animals, not with the place that stands before it. */
static int agreement(rng *r, char *out, size_t room) {
    const char *animal = PICK(ANIMAL), *place = PICK(PLACE), *verb = PICK(VERB);
    const int many = rng_below(r, 2) != 0, places = rng_below(r, 2) != 0;
    return snprintf(out, room, "the %s%s near the %s%s %s%s.\n", animal, many ? "s" : "", place, places ? "s" : "",
                    verb, many ? "" : "s");
}

static int sum(rng *r, char *out, size_t room) {
    const char *animal = PICK(ANIMAL);
    const uint32_t a = 2 + rng_below(r, 4), b = 2 + rng_below(r, 4);
    return snprintf(out, room, "%s %ss and %s %ss are %s %ss.\n", NUMBER[a], animal, NUMBER[b], animal, NUMBER[a + b],
                    animal);
}

void story_make(unsigned char *out, size_t count, uint64_t seed) {
    static int (*const sentence[])(rng *, char *, size_t) = {gift, agreement, sum};
    for (uint64_t i = 0; count > 0; i++) {
        rng r = rng_make(seed, RNG_STORY, i);
        char line[160];
        size_t n = (size_t)sentence[rng_below(&r, COUNT(sentence))](&r, line, sizeof line);
        if (n > count) n = count;
        memcpy(out, line, n);
        out += n;
        count -= n;
    }
}
