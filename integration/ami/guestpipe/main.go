// Command guestpipe joins a connection that a QEMU guest has opened to a server on the host. QEMU
// starts one guestpipe for each connection; its standard input and output are the guest's side.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: guestpipe HOST:PORT")
		os.Exit(2)
	}
	if err := join(context.Background(), os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "guestpipe: %v\n", err)
		os.Exit(1)
	}
}

// join copies in both directions until the server has sent everything or hangs up.
func join(ctx context.Context, addr string, in io.Reader, out io.Writer) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(conn, in) // an error means that the guest has hung up; the server notices that
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(out, conn)
	return err
}
