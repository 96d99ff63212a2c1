/* What a processor tells of its caches. */

#include <stdint.h>

#ifdef __linux__
#include <unistd.h>
#elif defined __APPLE__
#include <sys/sysctl.h>
#endif

/* Bytes of the first cache for data; 0 where nothing is known. */
int64_t first_cache(void)
{
#if defined _SC_LEVEL1_DCACHE_SIZE
    const long found = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    return found > 0 ? found : 0;
#elif defined __APPLE__
    int64_t found = 0;
    size_t size = sizeof found;
    return sysctlbyname("hw.l1dcachesize", &found, &size, 0, 0) ? 0 : found;
#else
    return 0;
#endif
}
