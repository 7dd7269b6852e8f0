package sigv4

import (
	"fmt"
	"net/http"
	"time"
)

// Error is a refusal in the words that AWS clients know.
type Error struct {
	Code    string
	Status  int
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func missing() *Error {
	return &Error{"MissingAuthenticationTokenException", http.StatusForbidden, "Missing Authentication Token"}
}

func incomplete(message string) *Error {
	return &Error{"IncompleteSignatureException", http.StatusBadRequest, message}
}

func invalid(message string) *Error {
	return &Error{"InvalidSignatureException", http.StatusForbidden, message}
}

func unrecognized() *Error {
	return &Error{"UnrecognizedClientException", http.StatusForbidden, "The security token included in the request is invalid."}
}

func expiredToken() *Error {
	return &Error{"ExpiredTokenException", http.StatusForbidden, "The security token included in the request is expired"}
}

func mismatch() *Error {
	return invalid("The request signature we calculated does not match the signature you provided. " +
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

func tooLarge() *Error {
	return &Error{"RequestEntityTooLargeException", http.StatusRequestEntityTooLarge, "Request body is too large."}
}

func expired(signed, earliest, now time.Time) *Error {
	return invalid("Signature expired: " + signed.Format(dateFormat) + " is now earlier than " + earliest.Format(dateFormat) +
		" (" + now.Format(dateFormat) + " - " + minutes(now.Sub(earliest)) + ")")
}

func notYet(signed, latest, now time.Time) *Error {
	return invalid("Signature not yet current: " + signed.Format(dateFormat) + " is still later than " + latest.Format(dateFormat) +
		" (" + now.Format(dateFormat) + " + " + minutes(latest.Sub(now)) + ")")
}

func minutes(d time.Duration) string { return fmt.Sprintf("%g min.", d.Minutes()) }
