package main

import (
	"strings"
	"testing"
)

// What a processor tells the others is checked before it starts: an address that its
// record refuses would be met at every takeover.
func TestProcessor_RefusesWhatItsPeersCouldNotUse(t *testing.T) {
	env := []string{"ASSENT_SUBJECT_KEY=" + strings.Repeat("0123456789abcdef", 4), "ASSENT_PURPOSES=purposes.yaml"}
	for _, address := range []string{"10.0.0.7:8080", "http://:8080", "http://10.0.0.7", "http://10.0.0.7:8080/", "ftp://10.0.0.7:21", "http://me:secret@10.0.0.7:8080"} {
		code, _, stderr := assent(t, append(env, "ASSENT_PEER_URL="+address), "processor")
		wantRefusal(t, code, stderr, "ASSENT_PEER_URL", "is not an address")
	}
	code, _, stderr := assent(t, append(env, "ASSENT_PEER_SECRET=short", "ASSENT_PACE=2s"), "processor")
	wantRefusal(t, code, stderr, "ASSENT_PEER_SECRET", "at least 16", "ASSENT_PACE")
	code, _, stderr = assent(t, append(env, "ASSENT_HTTP_ADDR=0.0.0.0:0", "ASSENT_ALLOW_OPEN=true"), "processor")
	wantRefusal(t, code, stderr, "ASSENT_PEER_URL", "ASSENT_PEER_SECRET")
}
