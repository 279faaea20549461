/* Says hello: as JSON on standard output, or to everybody who asks over HTTP. */

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

static int fail(const char *what) {
  fprintf(stderr, "hello: %s: %s\n", what, strerror(errno));
  return 1;
}

/* The document, to be freed by the caller; NULL when there is no memory or no greeting. */
static char *document(void) {
  char greeting[256] = "";
  FILE *file = fopen("greeting.txt", "r");
  if (file == NULL) return NULL;
  if (fgets(greeting, sizeof greeting, file) == NULL) greeting[0] = '\0';
  fclose(file);
  greeting[strcspn(greeting, "\n")] = '\0';

  struct utsname system;
  uname(&system);
  const struct passwd *user = getpwuid(getuid());
  char directory[256];

  cJSON *root = cJSON_CreateObject();
  cJSON_AddStringToObject(root, "greeting", greeting);
  cJSON_AddStringToObject(root, "version", VERSION);
  cJSON_AddStringToObject(root, "user", user != NULL ? user->pw_name : "unknown");
  cJSON_AddNumberToObject(root, "uid", getuid());
  cJSON_AddStringToObject(root, "directory",
                          getcwd(directory, sizeof directory) != NULL ? directory : "unknown");
  cJSON_AddStringToObject(root, "kernel", system.release);
  char *text = cJSON_Print(root);
  cJSON_Delete(root);
  return text;
}

static struct sockaddr_in address(void) {
  const char *port = getenv("PORT");
  struct sockaddr_in place = {.sin_family = AF_INET};
  place.sin_port = htons((uint16_t)atoi(port != NULL ? port : "8080"));
  return place;
}

static int print(void) {
  char *text = document();
  if (text == NULL) return fail("greeting.txt");
  puts(text);
  free(text);
  return 0;
}

static int serve(void) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in place = address();
  int yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&place, sizeof place) < 0) return fail("bind");
  if (listen(listener, 16) < 0) return fail("listen");
  for (;;) {
    int client = accept(listener, NULL, NULL);
    if (client < 0) return fail("accept");
    char request[1024];
    char *text = read(client, request, sizeof request) > 0 ? document() : NULL;
    if (text != NULL) {
      dprintf(client,
              "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
              strlen(text), text);
      free(text);
    }
    close(client);
  }
}

/* What HEALTHCHECK runs: whether `serve` answers. */
static int check(void) {
  struct sockaddr_in place = address();
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int server = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(server, (struct sockaddr *)&place, sizeof place) < 0) return fail("connect");
  char answer[13] = "";
  if (dprintf(server, "GET / HTTP/1.0\r\n\r\n") < 0) return fail("write");
  if (recv(server, answer, 12, MSG_WAITALL) < 0) return fail("read");
  return strcmp(answer, "HTTP/1.0 200") == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
  const char *command = argc > 1 ? argv[1] : "print";
  if (strcmp(command, "print") == 0) return print();
  if (strcmp(command, "serve") == 0) return serve();
  if (strcmp(command, "check") == 0) return check();
  fprintf(stderr, "usage: hello [print|serve|check]\n");
  return 2;
}
