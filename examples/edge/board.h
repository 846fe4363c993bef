/* SPDX-License-Identifier: MIT
 * board.h: what a program here needs of a microcontroller: a serial line for text, one to the other board, a clock. The
 * boards are Arm's MPS2 with AN386 (Cortex-M4F) and MPS3 with AN547 (Cortex-M55); another one is another board.c. */
#ifndef EDGE_BOARD_H
#define EDGE_BOARD_H

#include <stddef.h>
#include <stdint.h>

/* A byte for the text, and one for the other board; waits while the line is full. */
void board_text(char c);
void board_line_put(unsigned char byte);
/* A byte from the other board, or -1. What is not taken in time (BOARD_LINE_ROOM bytes) waits on the line. */
int board_line_get(void);
enum { BOARD_LINE_ROOM = 256 };
/* Counts up from 0; wraps after centuries. */
uint64_t board_now_ns(void);
/* Stands still until a byte has come, or for a millisecond at most. */
void board_wait(void);
/* Ends the program: the emulator's exit status. On a real board it stands still. */
void board_exit(int status) __attribute__((noreturn));
/* Bytes of stack that have been in use. */
size_t board_stack_used(void);

extern const char board_name[];
int main(void);

#endif
