/* One function by several threads at once. */
#ifndef TOGETHER_H
#define TOGETHER_H

/* What each thread does; `number` is its own, from 0 on. */
typedef void share(void *all, int number);

/* Call it for each number below `threads`, 0 by the caller, and come back when all are done. Where the system has no thread left,
 * the caller does another's share behind its own. */
void together(int threads, share *of_one, void *all);

/* 1 where the threads are the same from one time to the next. */
#ifdef _OPENMP
#define THREADS_STAY 1
#else
#define THREADS_STAY 0
#endif

#endif
