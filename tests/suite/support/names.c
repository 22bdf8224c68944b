// Finds the address of no name while the file NAMES_ARE_LOST_WHILE is there, and adds a line to it each time.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    const char *path = getenv("NAMES_ARE_LOST_WHILE");
    int file = path ? open(path, O_WRONLY | O_APPEND) : -1;
    if (file < 0)
        return ((lookup *)dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
    ssize_t written = write(file, "\n", 1);
    close(file);
    return written == 1 ? EAI_AGAIN : EAI_SYSTEM;
}
