/* SPDX-License-Identifier: MIT
 * util.h: ending with one clear line, memory that is there or ends the program, and the clock. */
#ifndef TRAIN_UTIL_H
#define TRAIN_UTIL_H

#include <stddef.h>
#include <stdint.h>

#if defined __GNUC__ || defined __clang__
#define TRAIN_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define TRAIN_PRINTF(text, first)
#endif
#ifdef __cplusplus
#define TRAIN_NORETURN [[noreturn]]
#else
#define TRAIN_NORETURN _Noreturn
#endif

enum { EXIT_BAD_INPUT = 2, EXIT_LEFT_OUT = 3 };

/* What this program is called; "train" unless main says something else. */
extern const char *program_name;

/* Prints "<program>: <message>" on stderr and exits: bad_input with status 2 (options, files), broken with status 1. */
TRAIN_NORETURN void bad_input(const char *format, ...) TRAIN_PRINTF(1, 2);
TRAIN_NORETURN void broken(const char *format, ...) TRAIN_PRINTF(1, 2);

/* Zeroed memory, aligned to a cache line; never NULL. Give it back with free(). */
void *new_array(size_t count, size_t bytes_each);
float *new_floats(size_t count);

/* Monotonic nanoseconds, and a sleep. */
uint64_t clock_ns(void);
void sleep_ns(uint64_t ns);

/* Logical processors that this process may use, at least 1. */
unsigned processors(void);

#endif
