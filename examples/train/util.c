/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "util.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *program_name = "train";

/* Workers tend to find trouble together: the first to come speaks, the others wait for the end. */
static _Noreturn void end(int status, const char *format, va_list args) {
    static atomic_flag ending = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&ending)) sleep_ns(1000000000);
    fflush(stdout);
    fprintf(stderr, "%s: ", program_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(status);
}

void bad_input(const char *format, ...) {
    va_list args;
    va_start(args, format);
    end(EXIT_BAD_INPUT, format, args);
}

void broken(const char *format, ...) {
    va_list args;
    va_start(args, format);
    end(EXIT_FAILURE, format, args);
}

void *new_array(size_t count, size_t bytes_each) {
    const size_t line = 64;
    if (bytes_each != 0 && count > (SIZE_MAX / 2) / bytes_each) broken("an array of %zu elements does not fit", count);
    size_t bytes = (count * bytes_each + line) / line * line; /* at least one line: never a size of zero */
    void *p = aligned_alloc(line, bytes);
    if (!p) broken("out of memory (%zu bytes)", bytes);
    memset(p, 0, bytes);
    return p;
}

float *new_floats(size_t count) {
    return new_array(count, sizeof(float));
}

uint64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void sleep_ns(uint64_t ns) {
    struct timespec t;
    t.tv_sec = (time_t)(ns / UINT64_C(1000000000));
    t.tv_nsec = (long)(ns % UINT64_C(1000000000));
    nanosleep(&t, NULL);
}

unsigned processors(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1u;
}
