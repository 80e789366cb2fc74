package owner

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/logtest"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/processor/decision"
)

// post sends a peer's request to p by hand, with changes.
func (p *process) post(path string, body []byte, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	r.RemoteAddr = "127.0.0.1:9999"
	r.Header.Set("Content-Type", contentType)
	r.Header.Set(secretHeader, secret)
	if change != nil {
		change(r)
	}
	mux := http.NewServeMux()
	p.Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

func question(instance string, ids ...consent.SubjectID) []byte {
	return (&request{instance: instance, patience: time.Second, ids: ids}).appendTo(nil)
}

func TestServe_WithASecretOnlyWhoShowsItIsServed(t *testing.T) {
	w := newWorld(t)
	p := w.start("p")
	for shown, want := range map[string]int{secret: 200, "": 403, secret + "x": 403, secret[:len(secret)-1]: 403, strings.ToUpper(secret): 403} {
		for _, path := range []string{statesPath, foldedPath} {
			answer := p.post(path, question("p"), func(r *http.Request) {
				r.RemoteAddr = "192.0.2.7:4000"
				r.Header.Set(secretHeader, shown)
			})
			if answer.Code != want || strings.Contains(answer.Body.String(), secret) {
				t.Errorf("%s with %q: %d %s", path, shown, answer.Code, answer.Body)
			}
		}
	}
	if p.post(statesPath, question("p"), func(r *http.Request) { r.Header.Del(secretHeader) }).Code != 403 {
		t.Error("who is on this machine needs no secret where there is one")
	}
}

func TestServe_WithoutASecretOnlyThisMachineIsServed(t *testing.T) {
	p := newWorld(t).start("p", func(c *Config) { c.Secret = "" })
	for from, want := range map[string]int{"127.0.0.1:1": 200, "127.8.8.8:1": 200, "[::1]:1": 200, "[::ffff:127.0.0.1]:1": 200, "192.0.2.7:1": 404, "[2001:db8::1]:1": 404, "[::ffff:192.0.2.7]:1": 404, "10.0.0.1:1": 404, "": 404, "@": 404, "localhost:1": 404} {
		if got := p.post(statesPath, question("p"), func(r *http.Request) { r.RemoteAddr = from }); got.Code != want {
			t.Errorf("from %q: %d, want %d", from, got.Code, want)
		}
	}
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"} {
		if got := p.post(statesPath, question("p"), func(r *http.Request) { r.Header.Set(header, "192.0.2.7") }); got.Code != 404 {
			t.Errorf("by way of a proxy on this machine, with %s: %d", header, got.Code)
		}
	}
}

// A page in a browser on this machine can send forms, but not this type.
func TestServe_OtherMediaTypesAreRefused(t *testing.T) {
	p := newWorld(t).start("p")
	for _, kind := range []string{"", "text/plain", "application/json", "application/x-www-form-urlencoded"} {
		if got := p.post(statesPath, question("p"), func(r *http.Request) { r.Header.Set("Content-Type", kind) }); got.Code != 415 {
			t.Errorf("%q: %d", kind, got.Code)
		}
	}
}

func TestServe_WhatCannotBeReadOrIsMeantForAnotherIsRefused(t *testing.T) {
	p := newWorld(t).start("p")
	for name, c := range map[string]struct {
		body []byte
		want int
	}{
		"empty":                  {nil, 400},
		"text":                   {[]byte(`{"ids":["s3cret"]}`), 400},
		"cut":                    {question("p", subject(1))[:9], 400},
		"too long":               {append(question("p"), make([]byte, maxRequestBytes)...), 400},
		"a subject that is none": {question("p", consent.SubjectID{Tenant: "default", Subject: "s3cret id"}), 400},
		"a tenant that is none":  {question("p", consent.SubjectID{Tenant: "S3CRET", Subject: "user:1"}), 400},
		"another instance":       {question("q", subject(1)), 421},
		"nobody":                 {question(""), 421},
		"no subjects":            {question("p"), 200},
	} {
		got := p.post(statesPath, c.body, nil)
		if got.Code != c.want || strings.Contains(strings.ToLower(got.Body.String()), "s3cret") {
			t.Errorf("%s: %d %s, want %d", name, got.Code, got.Body, c.want)
		}
	}
}

func TestServe_PeersThatAreTooManyWaitTheirTurnAndThenGiveUp(t *testing.T) {
	w := newWorld(t)
	a := w.start("a")
	b := w.start("b", func(c *Config) { c.MaxServed, c.MaxWaiting = 1, 1 })
	b.takes([]*process{a, b}, 1, 1)
	id := of(1)
	w.grant(id, 77)
	entered, release := make(chan struct{}), make(chan struct{})
	b.local.before = func(consent.SubjectID) { entered <- struct{}{}; <-release }
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- b.post(statesPath, question("b", id), nil) }()
	<-entered
	// The place is taken: another is refused when its patience ends.
	impatient := (&request{instance: "b", patience: 20 * time.Millisecond, ids: []consent.SubjectID{id}}).appendTo(nil)
	if got := b.post(statesPath, impatient, nil); got.Code != 503 {
		t.Errorf("a second one: %d", got.Code)
	}
	release <- struct{}{}
	if got := <-first; got.Code != 200 {
		t.Errorf("the first one: %d", got.Code)
	}
	b.local.before = nil
	if got := b.post(statesPath, question("b", id), nil); got.Code != 200 || got.Body.Len() == 0 {
		t.Errorf("when the place is free again: %d", got.Code)
	}

	wait := (&request{instance: "b", patience: patience, after: []decision.Position{{Partition: 1, Offset: 7}}}).appendTo(nil)
	go func() { first <- b.post(foldedPath, wait, nil) }()
	eventually(t, "one waits", func() bool { return len(b.waiting) == 1 })
	if got := b.post(foldedPath, wait, nil); got.Code != 503 {
		t.Errorf("a second one that waits: %d", got.Code)
	}
	b.local.fold(1, 7)
	if got := <-first; got.Code != 200 || !bytes.Equal(got.Body.Bytes(), []byte{wireVersion, foldedYes}) {
		t.Errorf("the first one that waits: %d %x", got.Code, got.Body.Bytes())
	}
	if got := b.post(foldedPath, wait, nil); got.Code != 200 {
		t.Errorf("one that waits when the place is free again: %d", got.Code)
	}
}

// A suspended process keeps its connections open and reads nothing.
func TestServe_APeerThatDoesNotReadLosesItsPlace(t *testing.T) {
	w := newWorld(t)
	b := w.start("b", func(c *Config) { c.MaxServed = 1 })
	b.takes([]*process{b}, 1, 1)
	id := of(1)
	grant := &consent.Event{
		ID: consent.UUID{1}, Tenant: id.Tenant, Subject: id.Subject, Action: consent.Grant, Purpose: "m.e", ReceivedAt: 5, EffectiveAt: 5,
		Notice: consent.Notice{ID: strings.Repeat("n", 60<<10)}, Policy: &consent.Policy{Version: "v1", Model: consent.OptIn},
	}
	s, _, _ := consent.Fold(consent.State{}, grant)
	w.states[id] = &s
	q := request{instance: "b", patience: 300 * time.Millisecond}
	for range maxItems { // 60 MB: more than any socket holds
		q.ids = append(q.ids, id)
	}
	body := q.appendTo(nil)
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := "POST " + statesPath + " HTTP/1.1\r\nHost: b\r\nContent-Type: " + contentType + "\r\n" + secretHeader + ": " + secret + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	if _, err := conn.Write(append([]byte(head), body...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is served", func() bool { return len(b.serving) == 1 })
	if got := b.post(statesPath, (&request{instance: "b", patience: patience, ids: q.ids[:1]}).appendTo(nil), nil); got.Code != 200 {
		t.Errorf("another peer: %d", got.Code)
	}
}

func TestServe_APanicCutsTheAnswerAndTellsNoSubject(t *testing.T) {
	w := newWorld(t)
	var log logtest.Buffer
	a := w.start("a")
	b := w.start("b", func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	b.takes([]*process{a, b}, 1, 1)
	id := of(1)
	w.grant(id, 77)
	b.local.before = func(id consent.SubjectID) { panic("about " + string(id.Subject)) }
	if got := clocks(a.States(t.Context(), []consent.SubjectID{id})); got[0] != -1 {
		t.Errorf("got %d", got[0])
	}
	if a.counts()["unavailable_total unreached"] != 1 {
		t.Errorf("counted %v", a.counts())
	}
	r, err := http.NewRequest(http.MethodPost, b.server.URL+statesPath, bytes.NewReader(question("b", id)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set(secretHeader, secret)
	if resp, err := b.server.Client().Do(r); err == nil {
		_ = resp.Body.Close()
		t.Errorf("answered %d: it must not look like an answer", resp.StatusCode)
	}
	if text := log.String(); !strings.Contains(text, "a peer could not be answered") || strings.Contains(text, string(id.Subject)) {
		t.Errorf("log: %s", text)
	}
}

// peer is a process whose answers are written by the test.
func (w *world) peer(answer func(http.ResponseWriter, *http.Request)) (asker *process) {
	w.Helper()
	server := httptest.NewServer(http.HandlerFunc(answer))
	w.Cleanup(server.Close)
	a := w.start("a")
	r := a.record(1, 1)
	r.Instance, r.Address = "hostile", server.URL
	a.tell(r)
	return a
}

func TestAsk_AnAnswerThatIsBrokenIsDenied(t *testing.T) {
	id := of(1)
	state, err := appendEntry(nil, id, &Folded{State: randomState(seed(t), id, 3)})
	if err != nil {
		t.Fatal(err)
	}
	head := []byte{wireVersion, 200, 1}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, c := range map[string]struct {
		code   int
		answer []byte
		cause  string
	}{
		"right":           {200, join(head, state), ""},
		"cut":             {200, join(head, state[:len(state)-1]), "unreached"},
		"empty":           {200, nil, "unreached"},
		"another version": {200, join([]byte{9}, head[1:], state), "malformed"},
		"no such entry":   {200, join(head, []byte{7}), "malformed"},
		"another subject": {200, join(head, bytes.ReplaceAll(bytes.Clone(state), []byte(id.Subject), bytes.Repeat([]byte("x"), len(id.Subject)))), "malformed"},
		"refused":         {403, nil, "refused"},
		"not there":       {404, nil, "refused"},
		"busy":            {503, nil, "late"},
		"elsewhere":       {307, nil, "refused"},
		"misdirected":     {421, nil, "not_owner"},
	} {
		w := newWorld(t)
		a := w.peer(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Location", "/elsewhere")
			rw.WriteHeader(c.code)
			_, _ = rw.Write(c.answer)
		})
		known := a.States(t.Context(), []consent.SubjectID{id})
		if known[0].OK != (c.cause == "") {
			t.Errorf("%s: %+v", name, known[0])
		}
		if c.cause != "" && a.counts()["unavailable_total "+c.cause] != 1 {
			t.Errorf("%s: counted %v, want %s", name, a.counts(), c.cause)
		}
	}
}

func TestAsk_AnAnswerWithoutEndIsLeftAtItsBound(t *testing.T) {
	id := of(1)
	sent := make(chan int64, 1)
	w := newWorld(t)
	a := w.peer(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = rw.Write([]byte{wireVersion, 200, 1, entryState, 0, 0xff, 0xff, 3})
		n, _ := io.Copy(rw, io.LimitReader(endless{}, 1<<40))
		sent <- n
	})
	if known := a.States(t.Context(), []consent.SubjectID{id}); known[0].OK {
		t.Errorf("%+v", known[0])
	}
	if n := <-sent; n > maxAnswerBytes+16<<20 {
		t.Errorf("%d bytes were taken", n)
	}
}

// endless gives rows of one byte.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

func TestConfig_EveryFaultIsTold(t *testing.T) {
	_, err := NewRouter(Config{SessionTimeout: time.Second, HeartbeatLimit: time.Second, Secret: "short", MaxServed: -1, MaxForwarded: -1, MaxWaiting: -1})
	if faults, ok := err.(interface{ Unwrap() []error }); !ok || len(faults.Unwrap()) != 7 {
		t.Errorf("faults: %v; want 7", err)
	}
	w := newWorld(t)
	p := w.start("p")
	if _, err := NewRouter(Config{Local: p.local, Directory: NewDirectory(nil, topic.Names{}, 1, nil), Instance: "q", Registerer: p.metrics}); err == nil {
		t.Error("metrics registered twice without an error")
	}
}
