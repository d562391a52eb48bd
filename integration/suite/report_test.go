package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

const absent = `{"Action":"output","Package":"m/p","Test":"TestA",` +
	`"Output":"    p_test.go:9: set LOCALSTACK_ENDPOINT\n"}` + "\n"

func TestReport(t *testing.T) {
	t.Parallel()
	const passB = `{"Action":"pass","Package":"m/p","Test":"TestB","Elapsed":0.2}` + "\n"
	exit := errors.New("exit status 1")
	cases := map[string]struct {
		events  string
		exit    error
		want    []string // these must be in what is printed
		without string   // this must not be in it
		wantErr string
	}{
		"passes": {
			events: `{"Action":"output","Package":"m/p","Test":"TestOpenMissing","Output":"chatter\n"}` + "\n" +
				`{"Action":"pass","Package":"m/p","Test":"TestOpenMissing/sub","Elapsed":1.23}` + "\n" +
				`{"Action":"pass","Package":"m/p","Test":"TestOpenMissing","Elapsed":0.1}` + "\n" +
				`{"Action":"pass","Package":"m/p","Elapsed":2}` + "\n",
			want: []string{"ok    p: open missing (1.2 s)\n", "1 ok, 0 failed, 0 skipped"}, without: "chatter",
		},
		"fails, with the output of its parts": {
			events: `{"Action":"output","Package":"m/p","Test":"TestA/sub","Output":"got 1, want 2\n"}` + "\n" +
				`{"Action":"fail","Package":"m/p","Test":"TestA/sub"}` + "\n" +
				`{"Action":"fail","Package":"m/p","Test":"TestA"}` + "\n" +
				`{"Action":"fail","Package":"m/p"}` + "\n" + passB,
			exit: exit, want: []string{"FAIL  p: a", "got 1, want 2", "ok    p: b", "1 ok, 1 failed"},
			wantErr: "1 of 2 failed",
		},
		"skipped for a reason of its own": {
			events: `{"Action":"output","Package":"m/p","Test":"TestA","Output":"LocalStack cannot do this\n"}` + "\n" +
				`{"Action":"output","Package":"m/p","Test":"TestA","Output":"--- SKIP: TestA\n"}` + "\n" +
				`{"Action":"skip","Package":"m/p","Test":"TestA"}` + "\n" + passB,
			want: []string{"skip  p: a", "1 ok, 0 failed, 1 skipped"},
		},
		"skipped for want of LocalStack": {
			events: absent + `{"Action":"output","Package":"m/p","Test":"TestA","Output":"--- SKIP: TestA\n"}` + "\n" +
				`{"Action":"skip","Package":"m/p","Test":"TestA"}` + "\n" + passB,
			want: []string{"FAIL  p: a", "set LOCALSTACK_ENDPOINT"}, wantErr: "1 of 2 failed",
		},
		"a part skipped for want of LocalStack": {
			events: strings.Replace(absent, "TestA", "TestA/sub", 1) +
				`{"Action":"output","Package":"m/p","Test":"TestA/sub",` +
				`"Output":"    --- SKIP: TestA/sub\n"}` + "\n" +
				`{"Action":"skip","Package":"m/p","Test":"TestA/sub"}` + "\n" +
				`{"Action":"pass","Package":"m/p","Test":"TestA"}` + "\n",
			want: []string{"FAIL  p: a"}, wantErr: "1 of 1 failed",
		},
		"names the variable and passes": {
			events: absent + `{"Action":"pass","Package":"m/p","Test":"TestA"}` + "\n",
			want:   []string{"ok    p: a"},
		},
		"does not build": {
			events: `{"Action":"build-output","ImportPath":"m/p [m/p.test]","Output":"undefined: x\n"}` + "\n" +
				`{"Action":"build-fail","ImportPath":"m/p [m/p.test]"}` + "\n" + `{"Action":"fail","Package":"m/p"}` +
				"\n" + passB,
			exit: exit, want: []string{"undefined: x", "FAIL  m/p"}, wantErr: "1 of 2 failed",
		},
		"panics": {
			events: `{"Action":"output","Package":"m/p","Test":"TestA","Output":"panic: oh\n"}` + "\n" +
				`{"Action":"fail","Package":"m/p"}` + "\n",
			exit: exit, want: []string{"FAIL  p: a", "panic: oh"}, wantErr: "1 of 1 failed",
		},
		"ends badly without a failed test": {events: passB, exit: exit, wantErr: "exit status 1"},
		"no test": {
			events: `{"Action":"skip","Package":"m/p"}` + "\n", wantErr: "no test ran",
		},
		"only skips": {
			events: `{"Action":"skip","Package":"m/p","Test":"TestA"}` + "\n", wantErr: "no test ran",
		},
		"no JSON": {events: "go: something\n" + passB, want: []string{"go: something\n"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			r := newReport(&out)
			if err := r.read(strings.NewReader(c.events)); err != nil {
				t.Fatal(err)
			}
			err := r.verdict(c.exit)
			if (err != nil) != (c.wantErr != "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("verdict: got %v, want %q", err, c.wantErr)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got %q, want %q in it", out.String(), want)
				}
			}
			if c.without != "" && strings.Contains(out.String(), c.without) {
				t.Errorf("got %q, want no %q in it", out.String(), c.without)
			}
		})
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for test, want := range map[string]string{
		"TestOpenMissing": "open missing", "TestS3Put": "s3 put", "Test_under_score": "under score",
		"TestHTTP": "http", "Test": "Test",
	} {
		if got := words(test); got != want {
			t.Errorf("words(%s): got %q, want %q", test, got, want)
		}
	}
}

func TestCommandTellsTestsWhereLocalStackIs(t *testing.T) {
	t.Parallel()
	cmd := command(t.Context(), "http://h:1", "Conf", []string{"./a", "./b"})
	if got, want := strings.Join(cmd.Args, " "), "go test -count=1 -json -parallel 4 -run Conf ./a ./b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	env := strings.Join(cmd.Environ(), "\n") + "\n"
	for _, want := range []string{
		"LOCALSTACK_ENDPOINT=http://h:1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"AWS_REGION=eu-west-1", "AWS_PROFILE=",
	} {
		if !strings.Contains(env, want+"\n") {
			t.Errorf("environment lacks %s", want)
		}
	}
}
