/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "values.h"

#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

double value_number(const char *option, const char *text, double lo, double hi) {
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || errno || !(v >= lo && v <= hi)) /* written so that NaN fails */
        bad_input("%s: expected a number from %g to %g, got '%s'", option, lo, hi, text);
    return v;
}

double value_above_zero(const char *option, const char *text, double hi) {
    double v = value_number(option, text, 0.0, hi);
    if (!(v > 0.0)) bad_input("%s: expected a number above 0, at most %g, got '%s'", option, hi, text);
    return v;
}

uint64_t value_whole(const char *option, const char *text, uint64_t lo, uint64_t hi) {
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || v < lo || v > hi)
        bad_input("%s: expected a whole number from %llu to %llu, got '%s'", option, (unsigned long long)lo,
                  (unsigned long long)hi, text);
    return v;
}

size_t value_count(const char *option, const char *text, size_t lo, size_t hi) {
    return (size_t)value_whole(option, text, lo, hi);
}

int value_name(const char *option, const char *text, size_t length, const char *const *names, int n, const char *list) {
    for (int i = 0; i < n; i++)
        if (strlen(names[i]) == length && strncmp(names[i], text, length) == 0) return i;
    bad_input("%s: expected %s, got '%.*s'", option, list, (int)length, text);
}

void value_can_write(const char *option, const char *file) {
    if (!file) return;
    FILE *f = fopen(file, "a");
    if (!f) bad_input("%s %s: %s", option, file, strerror(errno));
    fclose(f);
}

void value_can_write_in(const char *option, const char *folder) {
    if (!folder) return;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) bad_input("%s %s: %s", option, folder, strerror(errno));
    if (access(folder, W_OK | X_OK) != 0) bad_input("%s %s: %s", option, folder, strerror(errno));
}
