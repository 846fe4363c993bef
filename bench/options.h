/* SPDX-License-Identifier: MIT
 * options.h: reading --name value and --name=value, and lists of numbers. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    int argc, at;
    char **argv;
} options;

/* Is the next argument the switch `name`? Then it is taken. */
static inline int option_switch(options *o, const char *name) {
    if (strcmp(o->argv[o->at], name)) return 0;
    o->at++;
    return 1;
}

/* The value of option `name` if that comes next, taken; NULL otherwise. */
static inline const char *option_value(options *o, const char *name) {
    const size_t n = strlen(name);
    const char *a = o->argv[o->at];
    if (!strncmp(a, name, n) && a[n] == '=') {
        o->at++;
        return a + n + 1;
    }
    if (strcmp(a, name)) return NULL;
    if (o->at + 1 == o->argc) {
        fprintf(stderr, "%s needs a value\n", name);
        exit(2);
    }
    o->at += 2;
    return o->argv[o->at - 1];
}

/* "1e4,1e6,100Mi" -> numbers; ends the program on nonsense. Returns how many. */
static inline size_t option_numbers(const char *text, double *numbers, size_t most) {
    size_t n = 0;
    while (*text) {
        char *end;
        double v = strtod(text, &end);
        if (end == text || !(v >= 1) || v > 1e15 || n == most) break;
        if (end[0] == 'K' && end[1] == 'i') v *= 1024, end += 2;
        else if (end[0] == 'M' && end[1] == 'i') v *= 1048576, end += 2;
        else if (*end == 'k') v *= 1e3, end++;
        else if (*end == 'M') v *= 1e6, end++;
        numbers[n++] = floor(v);
        text = end;
        if (*text == ',') text++;
        else if (*text) break;
    }
    if (*text || n == 0) {
        fprintf(stderr, "a list of numbers is wanted, not '%s'\n", text);
        exit(2);
    }
    return n;
}

/* The number that `text` is, from least to most; else the program ends with a line that names all of them. */
static inline double option_number(const char *program, const char *option, const char *text, double least,
                                   double most) {
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end || !(v >= least && v <= most)) {
        fprintf(stderr, "%s: %s: a number from %g to %g is expected, got '%s'\n", program, option, least, most, text);
        exit(2);
    }
    return v;
}

/* Is `word` in the list "a,b,c"? NULL: everything is. */
static inline int option_lists(const char *list, const char *word) {
    const size_t n = strlen(word);
    if (!list) return 1;
    for (;;) {
        const size_t m = strcspn(list, ",");
        if (m == n && !strncmp(list, word, n)) return 1;
        if (!list[m]) return 0;
        list += m + 1;
    }
}

#endif
