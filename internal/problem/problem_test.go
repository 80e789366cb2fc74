package problem

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestWrite_SendsTheMembersOfRFC9457AndTheFaults(t *testing.T) {
	w := httptest.NewRecorder()
	Unprocessable("invalid-grant", "the grant breaks a rule", []Item{{"informed", "notice.id", "name the notice"}}).Write(w)
	if w.Code != http.StatusUnprocessableEntity || w.Header().Get("Content-Type") != ContentType {
		t.Fatalf("%d %s", w.Code, w.Header())
	}
	var got struct {
		Type, Title, Detail string
		Status              int
		Errors              []Item
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Type != "urn:assent:problem:invalid-grant" || got.Title != "Unprocessable Entity" || got.Status != 422 ||
		got.Detail == "" || len(got.Errors) != 1 || got.Errors[0].Code != "informed" {
		t.Fatalf("%+v", got)
	}
}

func TestWrite_RoundsRetryAfterUpToWholeSeconds(t *testing.T) {
	for wait, want := range map[time.Duration]string{0: "", time.Millisecond: "1", time.Second: "1", 1500 * time.Millisecond: "2"} {
		w := httptest.NewRecorder()
		Unavailable("broker-away", "try again", wait).Write(w)
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("%s: Retry-After %q, want %q", wait, got, want)
		}
	}
}

func TestParseQuery_ReadsAllOrNothing(t *testing.T) {
	for _, query := range []string{"a=1&b=%", "a=%zz&b=1", "a=1;b=2", "a=1&b=2;", "%=1", ";"} {
		values, err := ParseQuery(httptest.NewRequest(http.MethodGet, "/?"+query, nil))
		if err == nil || values != nil || strings.Contains(err.Error(), "zz") {
			t.Errorf("%s: %v, %v", query, values, err)
		}
	}
	values, err := ParseQuery(httptest.NewRequest(http.MethodGet, "/?a=1&a=100%25&b=x%3By&c", nil))
	if err != nil || values["a"][1] != "100%" || values.Get("b") != "x;y" || !values.Has("c") {
		t.Errorf("%v, %v", values, err)
	}
}
