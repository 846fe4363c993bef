/* SPDX-License-Identifier: MIT
 * values.h: the values of options on a command line. What is not understood ends the program with one line that says
 * what was expected and what is there. */
#ifndef TRAIN_VALUES_H
#define TRAIN_VALUES_H

#include <stddef.h>
#include <stdint.h>

double value_number(const char *option, const char *text, double lo, double hi);
double value_above_zero(const char *option, const char *text, double hi);
uint64_t value_whole(const char *option, const char *text, uint64_t lo, uint64_t hi);
size_t value_count(const char *option, const char *text, size_t lo, size_t hi);

/* Which of n names the first `length` characters of the text are. `list`: all of them, for people. */
int value_name(const char *option, const char *text, size_t length, const char *const *names, int n, const char *list);

/* Can this file be written (NULL: none is asked for)? Better now than after the work. */
void value_can_write(const char *option, const char *file);

/* The same of a folder, which is made if it is not there. */
void value_can_write_in(const char *option, const char *folder);

#endif
