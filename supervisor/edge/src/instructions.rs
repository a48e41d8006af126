//! The page that tells people how to make a device trust the internal authority, and its certificate to download. Works without script.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use crate::page::{self, LOOK, MARK, escape, prefers_spanish};
use crate::tls::certificates::Published;

/// The words of the page in one language.
struct Words {
    language: &'static str,
    title: &'static str,
    why: &'static str,
    only_for: &'static str,
    download: &'static str,
    compare: &'static str,
    after: &'static str,
    systems: [(&'static str, &'static [&'static str]); 5],
}

const ENGLISH: Words = Words {
    language: "en",
    title: "Trust this server",
    why: "This server signs its own certificate, so a device warns until it trusts the server's authority. That is done once on each device.",
    only_for: "The authority can vouch for these names and private networks only, not for other sites on the internet:",
    download: "Download the certificate",
    compare: "Compare the SHA-256 fingerprint with the one on the server's screen before trusting it. If it differs, stop and ask the administrator.",
    after: "Then open the server's address again. If the warning stays, close the browser completely and open it again.",
    systems: [
        (
            "Windows (Edge, Chrome)",
            &[
                "Open the downloaded file atalaya-ca.crt and choose “Install Certificate”.",
                "Choose “Current User”, then “Place all certificates in the following store”.",
                "Choose “Trusted Root Certification Authorities”, finish, and answer “Yes”.",
            ],
        ),
        (
            "macOS (Safari, Chrome)",
            &[
                "Open the downloaded file: Keychain Access adds it to the keychain “login”.",
                "Find “Atalaya internal CA” there, open it, and unfold “Trust”.",
                "Set “When using this certificate” to “Always Trust” and close the window.",
            ],
        ),
        (
            "iPhone and iPad",
            &[
                "Download the certificate with Safari and allow the profile.",
                "Settings, General, VPN & Device Management: choose the profile and install it.",
                "Settings, General, About, Certificate Trust Settings: switch it on.",
            ],
        ),
        (
            "Android",
            &[
                "Settings, Security, Encryption and credentials, Install a certificate, CA certificate.",
                "Choose “Install anyway”, then the downloaded file.",
                "The names differ between makers: search the settings for “certificate”. Some apps do not look at certificates that users add.",
            ],
        ),
        (
            "Firefox (any computer)",
            &[
                "Firefox takes over what Windows and macOS trust. Elsewhere: Settings, Privacy & Security, View Certificates.",
                "On the page “Authorities” choose “Import” and the downloaded file.",
                "Tick “Trust this CA to identify websites”.",
            ],
        ),
    ],
};

const SPANISH: Words = Words {
    language: "es",
    title: "Confiar en este servidor",
    why: "Este servidor firma su propio certificado; por eso cada dispositivo avisa hasta que confía en su autoridad. Se hace una sola vez en cada dispositivo.",
    only_for: "La autoridad solo puede avalar estos nombres y redes privadas, no otros sitios de internet:",
    download: "Descargar el certificado",
    compare: "Antes de confiar, conviene comparar la huella SHA-256 con la que muestra la pantalla del servidor. Si es distinta, no continúe y pregunte al administrador.",
    after: "Después se abre otra vez la dirección del servidor. Si el aviso continúa, basta con cerrar el navegador por completo y abrirlo de nuevo.",
    systems: [
        (
            "Windows (Edge, Chrome)",
            &[
                "Abrir el archivo descargado atalaya-ca.crt y elegir «Instalar certificado».",
                "Elegir «Usuario actual» y después «Colocar todos los certificados en el siguiente almacén».",
                "Elegir «Entidades de certificación raíz de confianza», finalizar y responder «Sí».",
            ],
        ),
        (
            "macOS (Safari, Chrome)",
            &[
                "Abrir el archivo descargado: Acceso a Llaveros lo añade al llavero «inicio de sesión».",
                "Buscar allí «Atalaya internal CA», abrirlo y desplegar «Confiar».",
                "En «Al utilizar este certificado» elegir «Confiar siempre» y cerrar la ventana.",
            ],
        ),
        (
            "iPhone y iPad",
            &[
                "Descargar el certificado con Safari y permitir el perfil.",
                "Ajustes, General, VPN y gestión de dispositivos: elegir el perfil e instalarlo.",
                "Ajustes, General, Información, Ajustes de confianza de los certificados: activarlo.",
            ],
        ),
        (
            "Android",
            &[
                "Ajustes, Seguridad, Cifrado y credenciales, Instalar un certificado, Certificado de CA.",
                "Elegir «Instalar de todos modos» y después el archivo descargado.",
                "Los nombres cambian según el fabricante: conviene buscar «certificado» en los ajustes. Algunas aplicaciones no tienen en cuenta los certificados que añade el usuario.",
            ],
        ),
        (
            "Firefox (cualquier ordenador)",
            &[
                "Firefox acepta aquello en lo que confían Windows y macOS. En otros sistemas: Ajustes, Privacidad y seguridad, Ver certificados.",
                "En la pestaña «Autoridades» elegir «Importar» y el archivo descargado.",
                "Marcar «Confiar en esta CA para identificar sitios web».",
            ],
        ),
    ],
};

/// The authority's certificate, as devices take it.
pub fn certificate(authority: Option<&Published>) -> Response<String> {
    let Some(authority) = authority else {
        return none();
    };
    let mut response = Response::new(authority.pem.clone());
    let headers = response.headers_mut();
    page::own_headers(headers, "application/x-x509-ca-cert");
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"atalaya-ca.crt\""),
    );
    response
}

/// The instructions, in English or Spanish.
pub fn page(authority: Option<&Published>, request: &HeaderMap) -> Response<String> {
    let Some(authority) = authority else {
        return none();
    };
    let words = if prefers_spanish(request) {
        &SPANISH
    } else {
        &ENGLISH
    };
    page::html(StatusCode::OK, render(words, authority))
}

fn none() -> Response<String> {
    let message = "this server has no certificate authority yet: it is made when the server knows its address";
    page::error(StatusCode::NOT_FOUND, "", message, "")
}

fn render(words: &Words, authority: &Published) -> String {
    let Words {
        language,
        title,
        why,
        only_for,
        download,
        compare,
        after,
        systems,
    } = words;
    // In two lines of equal length, as the server's screen shows it; on a phone in four.
    let half = |text: &str| {
        text.split_at_checked(24)
            .map(|(one, two)| format!("{one}<wbr>{two}"))
    };
    let halves = authority.sha256.split_at_checked(48);
    let (first, second) = halves
        .and_then(|(first, second)| Some((half(first)?, half(second)?)))
        .unwrap_or_default();
    let constraints = escape(&authority.constrained_to.join(", "));
    let systems: String = systems
        .iter()
        .map(|(system, steps)| {
            let steps: String = steps
                .iter()
                .map(|step| format!("<li>{step}</li>\n"))
                .collect();
            format!("<h2>{system}</h2>\n<ol>\n{steps}</ol>\n")
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{LOOK}</style>\n</head>\n\
         <body>\n<main>\n{MARK}\n<h1>{title}</h1>\n<p>{why}</p>\n<p><a class=\"button\" href=\"/ca.crt\">{download}</a></p>\n\
         <div class=\"panel\"><p>{compare}</p>\n<p class=\"fingerprint\">{first}<br>{second}</p></div>\n\
         {systems}<p>{after}</p>\n<p class=\"second\">{only_for} {constraints}</p>\n</main>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Published {
        Published {
            pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
            sha256: ["AB"; 32].join(":"),
            constrained_to: vec!["chat.example.org".to_owned(), "10.0.0.0/8".to_owned()],
        }
    }

    #[test]
    fn the_page_shows_fingerprint_constraints_and_every_system_in_both_languages() {
        for (language, title) in [
            ("en", "Trust this server"),
            ("es", "Confiar en este servidor"),
        ] {
            let headers = HeaderMap::from_iter([(
                header::ACCEPT_LANGUAGE,
                HeaderValue::from_static(language),
            )]);
            let response = page(Some(&published()), &headers);
            let body = response.body();
            for part in [
                title,
                "chat.example.org",
                "10.0.0.0/8",
                "href=\"/ca.crt\"",
                "Windows",
                "macOS",
                "iPhone",
                "Android",
                "Firefox",
            ] {
                assert!(body.contains(part), "{part}: {body}");
            }
            let shown: String = body
                .split("class=\"fingerprint\">")
                .nth(1)
                .unwrap()
                .chars()
                .take_while(|c| *c != '/')
                .filter(|c| c.is_ascii_uppercase() || *c == ':')
                .collect();
            assert_eq!(shown, ["AB"; 32].join(":"));
            assert!(!body.contains("<script") && !body.contains("style=\""));
            assert!(response.headers().contains_key("content-security-policy"));
        }
    }

    #[test]
    fn without_an_authority_there_is_nothing_to_trust() {
        assert_eq!(page(None, &HeaderMap::new()).status(), 404);
        assert_eq!(certificate(None).status(), 404);
        let response = certificate(Some(&published()));
        assert_eq!(
            response.headers()["content-type"],
            "application/x-x509-ca-cert"
        );
        assert_eq!(*response.body(), published().pem);
    }
}
